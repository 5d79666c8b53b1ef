# Compiler flags of x86-64: of every file, and of the kernels here, which get their instruction set from this table and
# from nowhere else: the end of a file's name, its flags; the last line that fits counts.
add_compile_options(-fcf-protection=full)

# Inner loops begin on a cache line: one that straddles two loses a third of its speed on some processors.
set(avx2 -mavx2 -mfma -mf16c ${kernel_level} -falign-loops=64)
set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c ${kernel_level} -falign-loops=64)
function(dr_flags pattern)
    file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/backend/cpu/x86/${pattern})
    set_source_files_properties(${files} PROPERTIES COMPILE_OPTIONS "${ARGN}")
endfunction()
dr_flags(*_avx2.c                ${avx2})
dr_flags(*_avx512.c              ${avx512})
dr_flags(emulated/*_emulated.c   ${avx512})
dr_flags(*_avx512_bf16.c         ${avx512} -mavx512bf16)
dr_flags(*_avx512_fp16.c         ${avx512} -mavx512fp16)
dr_flags(*_avx512_int8.c         ${avx512} -mavx512bf16 -mavx512vnni)
dr_flags(*_avx512_vnni_int8.c    ${avx512} -mavx512vnni)
dr_flags(*_amx_bf16.c            ${avx512} -mavx512bf16 -mamx-tile -mamx-bf16)
dr_flags(*_amx_int8.c            ${avx512} -mavx512bf16 -mamx-tile -mamx-int8)
# The loops of peaks.def: peak_FAMILY.c with its family's own instructions.
dr_flags(peak_bf16_avx512.c      ${avx512} -mavx512bf16)
dr_flags(peak_fp16_avx512.c      ${avx512} -mavx512fp16)
dr_flags(peak_int8_vnni.c        ${avx512} -mavx512vnni)
dr_flags(peak_amx_bf16.c         ${avx512} -mamx-tile -mamx-bf16)
dr_flags(peak_amx_int8.c         ${avx512} -mamx-tile -mamx-int8)
