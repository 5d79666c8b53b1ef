# testing/fuzz/fuzz_NAME.c: a fuzz target. Each is a program replay_NAME, which runs testing/fuzz/corpus/NAME once and is
# a test of every build, and with DR_FUZZ a program fuzz_NAME with libFuzzer, which only clang has. tools/fuzz.sh runs
# those.
if(DR_FUZZ AND NOT CMAKE_C_COMPILER_ID STREQUAL Clang)
    message(FATAL_ERROR "DR_FUZZ needs clang: CC=clang cmake ...")
endif()

add_library(dr_fuzzing STATIC testing/fuzz/helpers.c testing/fuzz/picture.c testing/helpers/base_files.c
    testing/helpers/model_access.c)
target_link_libraries(dr_fuzzing PUBLIC dr_base)
add_custom_target(fuzzers)

# dr_fuzz(NAME FOLDERS...): the target and the libraries of the folders it reads.
function(dr_fuzz name)
    set(file testing/fuzz/fuzz_${name}.c)
    list(TRANSFORM ARGN PREPEND dr_ OUTPUT_VARIABLE libraries)
    add_executable(replay_${name} ${file} testing/fuzz/replay.c)
    target_link_libraries(replay_${name} PRIVATE dr_fuzzing ${libraries})
    add_dependencies(fuzzers replay_${name})
    add_test(NAME fuzz.${name} COMMAND replay_${name} ${CMAKE_SOURCE_DIR}/testing/fuzz/corpus/${name})
    set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 120 LABELS fuzz ENVIRONMENT
        "DARKROOM_SHARE=${CMAKE_SOURCE_DIR}/share")
    if(DR_FUZZ)
        add_executable(fuzz_${name} ${file})
        target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
        target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
        target_link_libraries(fuzz_${name} PRIVATE dr_fuzzing ${libraries})
        add_dependencies(fuzzers fuzz_${name})
    endif()
endfunction()

dr_fuzz(config cli)
dr_fuzz(gguf models)
dr_fuzz(inversion models)
dr_fuzz(jpeg base)
dr_fuzz(lora models)
dr_fuzz(model models)
dr_fuzz(npy base)
dr_fuzz(options cli)
dr_fuzz(png base)
dr_fuzz(prompt conditioning)
dr_fuzz(protocol communication)
dr_fuzz(safetensors models)
dr_fuzz(scheduler schedulers)
dr_fuzz(tokenizer models)
dr_fuzz(torch models)
dr_fuzz(webp base)

# A target without its line above would never run.
file(GLOB files CONFIGURE_DEPENDS testing/fuzz/fuzz_*.c)
foreach(file ${files})
    get_filename_component(program ${file} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "replay_" program ${program})
    if(NOT TARGET ${program})
        message(FATAL_ERROR "${file} has no line in cmake/fuzz.cmake")
    endif()
endforeach()
