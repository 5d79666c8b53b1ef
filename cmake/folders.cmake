# The folders and what each may link. testing/lint/layers.py holds the same order for #include lines.

# dr_folder(NAME DIR LINKS...): the library dr_NAME of all C files directly in DIR and the folders given with SUBDIRS.
function(dr_folder name)
    cmake_parse_arguments(F "" "" "DIRS;LINKS" ${ARGN})
    set(sources)
    foreach(dir ${F_DIRS})
        file(GLOB found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${dir}/*.c)
        list(FILTER found EXCLUDE REGEX "_emulated\\.c$") # kernels for tests
        list(APPEND sources ${found})
    endforeach()
    if(NOT sources)
        return()
    endif()
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
    PkgConfig::CRYPTO PkgConfig::YAML PkgConfig::ZSTD Threads::Threads m)
dr_folder(tensor DIRS tensor LINKS base)
dr_folder(backend DIRS backend backend/ops backend/cpu backend/cpu/kernels backend/plan LINKS tensor PkgConfig::XXHASH)
dr_folder(communication DIRS core/communication LINKS base)
dr_folder(core DIRS core LINKS communication backend)
dr_folder(schedulers DIRS schedulers LINKS base)
dr_folder(models DIRS models models/formats models/tokenizers models/adapters LINKS backend PkgConfig::UTF8PROC PkgConfig::ZSTD)
dr_folder(conditioning DIRS conditioning LINKS models)
dr_folder(inference DIRS inference LINKS schedulers conditioning core)
dr_folder(coordination DIRS coordination LINKS inference)
dr_folder(supervisor DIRS coordination/supervisor LINKS communication)
dr_folder(cli DIRS cli LINKS supervisor communication)

# Kernels get their instruction set from the file's suffix and from nowhere else. Their inner loops begin on a cache
# line: one that straddles two loses a third of its speed on some processors.
file(GLOB avx2 CONFIGURE_DEPENDS backend/cpu/kernels/*_avx2.c)
file(GLOB avx512 CONFIGURE_DEPENDS backend/cpu/kernels/*_avx512.c)
file(GLOB avx512_bf16 CONFIGURE_DEPENDS backend/cpu/kernels/*_avx512_bf16.c)
file(GLOB avx512_fp16 CONFIGURE_DEPENDS backend/cpu/kernels/*_avx512_fp16.c)
file(GLOB emulated CONFIGURE_DEPENDS backend/cpu/kernels/*_emulated.c)
set_source_files_properties(${avx2} PROPERTIES COMPILE_OPTIONS
    "-mavx2;-mfma;-mf16c;-O3;-falign-loops=64")
set(options_avx512 "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mfma;-mf16c;-O3;-falign-loops=64")
set_source_files_properties(${avx512} PROPERTIES COMPILE_OPTIONS "${options_avx512}")
set_source_files_properties(backend/cpu/panel.c PROPERTIES COMPILE_OPTIONS "-O3") # packing is loops of conversions
set_source_files_properties(${avx512_bf16} PROPERTIES COMPILE_OPTIONS "${options_avx512};-mavx512bf16")
file(GLOB avx512_int8 CONFIGURE_DEPENDS backend/cpu/kernels/*_avx512_int8.c)
set_source_files_properties(${avx512_int8} PROPERTIES COMPILE_OPTIONS "${options_avx512};-mavx512bf16;-mavx512vnni")
set_source_files_properties(backend/cpu/kernels/gemm_avx512_vnni_int8.c PROPERTIES COMPILE_OPTIONS
    "${options_avx512};-mavx512vnni")
set_source_files_properties(${avx512_fp16} PROPERTIES COMPILE_OPTIONS "${options_avx512};-mavx512fp16")
file(GLOB amx_bf16 CONFIGURE_DEPENDS backend/cpu/kernels/*_amx_bf16.c)
list(FILTER amx_bf16 EXCLUDE REGEX "/peak_")
set_source_files_properties(${amx_bf16} PROPERTIES COMPILE_OPTIONS
    "${options_avx512};-mavx512bf16;-mamx-tile;-mamx-bf16")
set_source_files_properties(backend/cpu/kernels/gemm_amx_int8.c PROPERTIES COMPILE_OPTIONS
    "${options_avx512};-mavx512bf16;-mamx-tile;-mamx-int8")
set_source_files_properties(${emulated} PROPERTIES COMPILE_OPTIONS "${options_avx512}")

# Kernel sets on emulated instructions, for tests only.
add_library(dr_emulated STATIC backend/cpu/emulated/sets.c ${emulated})
target_link_libraries(dr_emulated PUBLIC dr_backend)

# A set that packs weights on any processor, for tests only.
add_library(dr_packing STATIC backend/cpu/emulated/packing.c)
target_link_libraries(dr_packing PUBLIC dr_backend)

# The loops of backend/cpu/peaks.def: peak_FAMILY.c with its family's own instructions.
function(dr_peak family)
    set_source_files_properties(backend/cpu/kernels/peak_${family}.c PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mfma;-mf16c;-O3;-falign-loops=64;${ARGN}")
endfunction()
dr_peak(bf16_avx512 -mavx512bf16)
dr_peak(fp16_avx512 -mavx512fp16)
dr_peak(int8_vnni -mavx512vnni)
dr_peak(amx_bf16 -mamx-tile -mamx-bf16)
dr_peak(amx_int8 -mamx-tile -mamx-int8)

if(EXISTS ${CMAKE_SOURCE_DIR}/cli/main/darkroom.c)
    add_executable(darkroom cli/main/darkroom.c)
    target_link_libraries(darkroom PRIVATE dr_cli)
endif()
if(EXISTS ${CMAKE_SOURCE_DIR}/coordination/main/darkroom_worker.c)
    add_executable(darkroom-worker coordination/main/darkroom_worker.c)
    target_link_libraries(darkroom-worker PRIVATE dr_coordination)
endif()

add_executable(draw examples/draw.c)
target_include_directories(draw PRIVATE include)
target_link_libraries(draw PRIVATE dr_coordination)
