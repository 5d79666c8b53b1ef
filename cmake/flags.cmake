# Flags of every file on every machine; those of an architecture are in backend/cpu/ARCHITECTURE/flags.cmake.
include(CheckPIESupported)
check_pie_supported()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_compile_options(-Wall -Wextra -Wmissing-prototypes -Wstrict-prototypes -Wshadow -Wpointer-arith
    -Wvla -Walloca -Wundef -Wwrite-strings -ffp-contract=off -fno-math-errno -fvisibility=hidden
    -fstack-protector-strong -fstack-clash-protection)
if(CMAKE_C_COMPILER_ID STREQUAL GNU)
    add_compile_options(-Wno-format-truncation) # texts of errors are cut on purpose
endif()
if(DR_WERROR)
    add_compile_options(-Werror)
endif()
if(CMAKE_C_COMPILER_ID STREQUAL GNU OR CMAKE_C_COMPILER_VERSION VERSION_GREATER_EQUAL 16)
    add_compile_options(-ftrivial-auto-var-init=zero)
endif()
if(CMAKE_BUILD_TYPE STREQUAL Release)
    add_compile_definitions(_FORTIFY_SOURCE=3)
    set(CMAKE_C_FLAGS_RELEASE "-O2 -g1")
endif()
set(kernel_level -O3) # of the files with an instruction set of their own
if(DR_SANITIZE)
    set(kernel_level -O0) # with -O1 clang takes minutes for the checks of some kernels
    set(CMAKE_C_FLAGS_DEBUG "-O1 -g1")
    add_compile_options(-fsanitize=${DR_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${DR_SANITIZE})
    add_compile_definitions(DR_SANITIZED)
endif()
if(DR_FUZZ) # every library counts its branches for libFuzzer
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()
add_compile_definitions(_GNU_SOURCE DR_VERSION="${PROJECT_VERSION}")
add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack)
include_directories(${CMAKE_SOURCE_DIR})

find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()
