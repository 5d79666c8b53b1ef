# testing/fuzz/fuzz_*.c: libFuzzer programs, clang only. All libraries are instrumented too, so
# use a build folder of its own:
#   CC=clang cmake -S . -B build/fuzz -G Ninja -DDR_FUZZ=ON -DDR_SANITIZE=address
#   cmake --build build/fuzz --target fuzz_safetensors
#   build/fuzz/fuzz_safetensors -max_total_time=600 WORK testing/fuzz/corpus/safetensors
if(NOT CMAKE_C_COMPILER_ID STREQUAL Clang)
    message(FATAL_ERROR "DR_FUZZ needs clang: CC=clang cmake ...")
endif()

foreach(library base tensor backend models)
    target_compile_options(dr_${library} PRIVATE -fsanitize=fuzzer-no-link)
endforeach()
file(GLOB targets CONFIGURE_DEPENDS testing/fuzz/fuzz_*.c)
foreach(file ${targets})
    get_filename_component(program ${file} NAME_WE)
    add_executable(${program} EXCLUDE_FROM_ALL ${file})
    target_compile_options(${program} PRIVATE -fsanitize=fuzzer)
    target_link_options(${program} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(${program} PRIVATE dr_models)
endforeach()
