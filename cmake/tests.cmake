# testing/unit/test_FOLDER_*.c: one program each, linked with that folder's library only. Every cmocka_unit_test in
# it becomes a CTest test, so each runs in a process of its own; and one more reruns them all with failing
# allocations. testing/fidelity/test_*.c use the whole engine through its public header; testing/e2e/test_*.c drive
# the built binaries.
enable_testing()

# Kernel sets on emulated instructions.
if(architecture STREQUAL x86)
    file(GLOB emulated CONFIGURE_DEPENDS backend/cpu/x86/emulated/*.c)
    add_library(dr_emulated STATIC ${emulated})
    target_link_libraries(dr_emulated PUBLIC dr_backend)
else()
    add_library(dr_emulated STATIC testing/backends/no_emulated_sets.c)
endif()

# A set that packs weights on any processor.
add_library(dr_packing STATIC testing/backends/packing.c)
target_link_libraries(dr_packing PUBLIC dr_backend)

file(GLOB examples CONFIGURE_DEPENDS examples/*.c)
foreach(file ${examples})
    get_filename_component(program ${file} NAME_WE)
    add_executable(${program} ${file})
    target_include_directories(${program} PRIVATE include)
    target_link_libraries(${program} PRIVATE dr_coordination)
endforeach()

# The build of the other compiler, which test_compilers compares with.
if(CMAKE_C_COMPILER_ID STREQUAL Clang)
    set(other release)
else()
    set(other clang)
endif()

function(dr_test_program file prefix label timeout)
    get_filename_component(program ${file} NAME_WE)
    set(libs ${ARGN})
    add_executable(${program} ${file})
    target_link_libraries(${program} PRIVATE dr_testing ${libs} PkgConfig::CMOCKA)
    file(STRINGS ${file} lines REGEX "cmocka_unit_test(_setup_teardown)?\\(")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    string(REGEX REPLACE "^test_" "" short ${program})
    set(environment "DARKROOM_SHARE=${CMAKE_SOURCE_DIR}/share"
        "DARKROOM_BIN=${CMAKE_BINARY_DIR}/darkroom" "DARKROOM_WORKER=${CMAKE_BINARY_DIR}/darkroom-worker"
        "DARKROOM_PACKING_WORKER=${CMAKE_BINARY_DIR}/packing_worker"
        "DARKROOM_OTHER_WORKER=${CMAKE_SOURCE_DIR}/build/${other}/darkroom-worker"
        "DARKROOM_DRAW=${CMAKE_BINARY_DIR}/draw" "DARKROOM_SOURCE=${CMAKE_SOURCE_DIR}"
        "XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/test-cache"
        "XDG_CONFIG_HOME=${CMAKE_BINARY_DIR}/test-config")
    string(REGEX MATCHALL "cmocka_unit_test(_setup_teardown)?\\([a-z0-9_]+" found "${lines}")
    foreach(one ${found})
        string(REGEX REPLACE "^.*\\(" "" one ${one})
        set(test ${prefix}.${short}.${one})
        add_test(NAME ${test} COMMAND ${program} ${one})
        set_tests_properties(${test} PROPERTIES TIMEOUT ${timeout} LABELS ${label}
            ENVIRONMENT "${environment}" SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
    endforeach()
    if(label STREQUAL unit)
        add_test(NAME oom.${short} COMMAND ${program} --oom)
        set_tests_properties(oom.${short} PROPERTIES TIMEOUT 300 LABELS oom ENVIRONMENT "${environment}"
            SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
    endif()
endfunction()

file(GLOB helpers CONFIGURE_DEPENDS testing/helpers/*.c)
add_library(dr_testing STATIC ${helpers})
target_link_libraries(dr_testing PUBLIC dr_base PkgConfig::CMOCKA)

# What `make test` builds of the sanitized modes, and of the compiler whose bits are compared.
add_custom_target(unit_tests)
set(folders base tensor backend communication core schedulers models conditioning inference bench quantize coordination supervisor cli)
foreach(folder ${folders})
    file(GLOB files CONFIGURE_DEPENDS testing/unit/test_${folder}_*.c)
    foreach(file ${files})
        dr_test_program(${file} unit unit 180 dr_${folder})
        get_filename_component(program ${file} NAME_WE)
        add_dependencies(unit_tests ${program})
    endforeach()
endforeach()

foreach(program test_backend_attention test_backend_emulated test_backend_epilogue test_models_adapters)
    target_link_libraries(${program} PRIVATE dr_emulated)
endforeach()

foreach(program test_inference_weights test_models_adapters test_models_deltas test_models_variants)
    target_link_libraries(${program} PRIVATE dr_packing)
endforeach()

add_custom_target(compared DEPENDS darkroom-worker test_backend_check)

# The worker with a kernel set that packs weights on any processor.
add_executable(packing_worker coordination/main/darkroom_worker.c testing/backends/packing_at_start.c)
target_link_libraries(packing_worker PRIVATE dr_coordination dr_packing)

file(GLOB files CONFIGURE_DEPENDS testing/e2e/test_*.c)
foreach(file ${files})
    dr_test_program(${file} e2e e2e 600 dr_communication)
endforeach()

file(GLOB files CONFIGURE_DEPENDS testing/fidelity/test_*.c)
foreach(file ${files})
    dr_test_program(${file} fidelity fidelity 300 dr_coordination dr_supervisor)
endforeach()

file(GLOB lints CONFIGURE_DEPENDS testing/lint/*.py)
foreach(lint ${lints})
    get_filename_component(name ${lint} NAME_WE)
    add_test(NAME lint.${name} COMMAND ${PYTHON3} ${lint} ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
    set_tests_properties(lint.${name} PROPERTIES TIMEOUT 240 LABELS lint SKIP_RETURN_CODE 77)
endforeach()

if(NOT DR_SANITIZE)
    add_test(NAME e2e.install COMMAND ${CMAKE_SOURCE_DIR}/testing/e2e/test_install.sh ${CMAKE_SOURCE_DIR}
        ${CMAKE_BINARY_DIR} ${CMAKE_C_COMPILER})
    set_tests_properties(e2e.install PROPERTIES TIMEOUT 300 LABELS e2e ENVIRONMENT
        "XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/test-cache;XDG_CONFIG_HOME=${CMAKE_BINARY_DIR}/test-config")

    file(GLOB scripts CONFIGURE_DEPENDS testing/e2e/test_*.py)
    foreach(script ${scripts})
        get_filename_component(name ${script} NAME_WE)
        string(REGEX REPLACE "^test_" "" name ${name})
        add_test(NAME e2e.${name} COMMAND ${PYTHON3} -B ${script} ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
        set_tests_properties(e2e.${name} PROPERTIES TIMEOUT 120 LABELS e2e ENVIRONMENT
            "XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/test-cache;XDG_CONFIG_HOME=${CMAKE_BINARY_DIR}/test-config")
    endforeach()
endif()

# The tables in docs/ that repeat tables of the program; `make docs` writes them.
add_executable(doc_tables testing/docs/doc_tables.c)
target_link_libraries(doc_tables PRIVATE dr_cli dr_coordination)
add_test(NAME lint.doc_tables COMMAND doc_tables ${CMAKE_SOURCE_DIR})
set_tests_properties(lint.doc_tables PROPERTIES TIMEOUT 60 LABELS lint ENVIRONMENT
    "DARKROOM_SHARE=${CMAKE_SOURCE_DIR}/share;XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/test-cache")

# Tools of `make check-fullsize`, which is no test: it needs a checkpoint of 7 GB.
add_executable(compare_stages testing/fullsize/compare_stages.c)
target_link_libraries(compare_stages PRIVATE dr_testing)
add_executable(unet_fraction testing/fullsize/unet_fraction.c)
target_link_libraries(unet_fraction PRIVATE dr_coordination)
add_executable(fast_error testing/fullsize/fast_error.c)
target_link_libraries(fast_error PRIVATE dr_coordination)
