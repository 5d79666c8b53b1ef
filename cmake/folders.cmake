# The folders and what each may link. testing/lint/layers.py holds the same order for #include lines.

# dr_folder(NAME DIR LINKS...): the library dr_NAME of all C files directly in DIR and the folders given with SUBDIRS.
function(dr_folder name)
    cmake_parse_arguments(F "" "" "DIRS;LINKS" ${ARGN})
    set(sources)
    foreach(dir ${F_DIRS})
        file(GLOB found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*.c)
        list(APPEND sources ${found})
    endforeach()
    add_library(dr_${name} STATIC ${sources})
    foreach(link ${F_LINKS})
        if(TARGET dr_${link})
            target_link_libraries(dr_${name} PUBLIC dr_${link})
        else()
            target_link_libraries(dr_${name} PUBLIC ${link})
        endif()
    endforeach()
endfunction()

dr_folder(base DIRS base base/image LINKS PkgConfig::JANSSON PkgConfig::PNG PkgConfig::JPEG PkgConfig::WEBP
    PkgConfig::CRYPTO PkgConfig::ZSTD Threads::Threads m)
dr_folder(tensor DIRS tensor LINKS base)
dr_folder(backend DIRS backend backend/ops backend/cache backend/cpu backend/cpu/x86 backend/plan backend/check LINKS tensor PkgConfig::XXHASH)
dr_folder(communication DIRS core/communication LINKS base)
dr_folder(core DIRS core LINKS communication backend)
dr_folder(schedulers DIRS schedulers LINKS base)
dr_folder(models DIRS models models/adapters models/formats models/tokenizers LINKS backend PkgConfig::UTF8PROC PkgConfig::ZSTD)
dr_folder(conditioning DIRS conditioning LINKS models)
dr_folder(inference DIRS inference LINKS schedulers conditioning core)
dr_folder(bench DIRS bench LINKS inference)
dr_folder(quantize DIRS quantize LINKS inference)
dr_folder(coordination DIRS coordination LINKS bench quantize)
dr_folder(supervisor DIRS coordination/supervisor LINKS communication)
dr_folder(cli DIRS cli LINKS supervisor communication PkgConfig::YAML)

set_source_files_properties(base/fs_paths.c PROPERTIES COMPILE_DEFINITIONS
    DR_SHARE_DIR="${CMAKE_INSTALL_PREFIX}/share/darkroom")

# Kernels get their instruction set from this table and from nowhere else: files of backend/cpu/x86 by the end of
# their name; the last line that fits counts. Inner loops begin on a cache line: one that straddles two loses a third
# of its speed on some processors.
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
# The loops of backend/cpu/x86/peaks.def: peak_FAMILY.c with its family's own instructions.
dr_flags(peak_bf16_avx512.c      ${avx512} -mavx512bf16)
dr_flags(peak_fp16_avx512.c      ${avx512} -mavx512fp16)
dr_flags(peak_int8_vnni.c        ${avx512} -mavx512vnni)
dr_flags(peak_amx_bf16.c         ${avx512} -mamx-tile -mamx-bf16)
dr_flags(peak_amx_int8.c         ${avx512} -mamx-tile -mamx-int8)
set_source_files_properties(backend/cpu/panel.c PROPERTIES COMPILE_OPTIONS "-O3") # packing is loops of conversions

add_executable(darkroom cli/main/darkroom.c)
target_link_libraries(darkroom PRIVATE dr_cli)
add_executable(darkroom-worker coordination/main/darkroom_worker.c)
target_link_libraries(darkroom-worker PRIVATE dr_coordination)
