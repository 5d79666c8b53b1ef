# The folders and what each may link. testing/lint/layers.py holds the same order for #include lines.

# dr_folder(NAME DIRS dir... LINKS lib...): the library dr_NAME of all C files directly in these folders.
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

# The kernels: one folder an architecture, with its compiler flags in flags.cmake; portable has none but the references.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|amd64|AMD64)$")
    set(architecture x86)
else()
    set(architecture portable)
endif()
include(backend/cpu/${architecture}/flags.cmake OPTIONAL)

dr_folder(base DIRS base base/image LINKS PkgConfig::JANSSON PkgConfig::PNG PkgConfig::JPEG PkgConfig::WEBP
    PkgConfig::CRYPTO PkgConfig::ZSTD Threads::Threads m)
dr_folder(tensor DIRS tensor LINKS base)
dr_folder(backend DIRS backend backend/ops backend/cache backend/cpu backend/cpu/${architecture} backend/plan backend/check LINKS tensor PkgConfig::XXHASH)
dr_folder(communication DIRS core/communication LINKS base)
dr_folder(core DIRS core LINKS communication backend)
dr_folder(schedulers DIRS schedulers LINKS base)
dr_folder(models DIRS models models/adapters models/formats models/tokenizers LINKS backend PkgConfig::UTF8PROC PkgConfig::ZSTD)
dr_folder(conditioning DIRS conditioning LINKS models)
dr_folder(inference DIRS inference inference/guiders LINKS schedulers conditioning core)
dr_folder(bench DIRS bench LINKS inference)
dr_folder(quantize DIRS quantize LINKS inference)
dr_folder(coordination DIRS coordination LINKS bench quantize)
dr_folder(supervisor DIRS coordination/supervisor LINKS communication)
dr_folder(cli DIRS cli LINKS supervisor communication PkgConfig::YAML)

set_source_files_properties(base/fs_paths.c PROPERTIES COMPILE_DEFINITIONS
    DR_SHARE_DIR="${CMAKE_INSTALL_PREFIX}/share/darkroom")

set_source_files_properties(backend/cpu/panel.c PROPERTIES COMPILE_OPTIONS "-O3") # packing is loops of conversions
set_source_files_properties(tensor/quant_blocks.c PROPERTIES COMPILE_OPTIONS "-O3") # so is unpacking: twice as fast

add_executable(darkroom cli/main/darkroom.c)
target_link_libraries(darkroom PRIVATE dr_cli)
add_executable(darkroom-worker coordination/main/darkroom_worker.c)
target_link_libraries(darkroom-worker PRIVATE dr_coordination)
