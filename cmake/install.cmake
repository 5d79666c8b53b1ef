# What `make install` puts under the prefix: the two programs, libdarkroom (shared and static) with its header,
# pkg-config file and CMake package, the manual page, completions, and the shipped data.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The number of libdarkroom.so.N and of the last node of libdarkroom.map; see "Stability" in include/darkroom.h.
set(library_abi 0)

# libdarkroom.a: the engine's folders as one object in which only the functions of darkroom.h have a name, so that
# none of ours meets one of the host's.
set(objects)
set(engine base tensor backend communication core schedulers models conditioning inference bench quantize coordination)
foreach(folder ${engine})
    list(APPEND objects $<TARGET_OBJECTS:dr_${folder}>)
endforeach()
set(static_library ${CMAKE_BINARY_DIR}/libdarkroom.a)
add_custom_command(OUTPUT ${static_library}
    COMMAND ${CMAKE_LINKER} -r -o darkroom.o ${objects}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden darkroom.o
    COMMAND ${CMAKE_COMMAND} -E rm -f ${static_library}
    COMMAND ${CMAKE_AR} rcs ${static_library} darkroom.o
    DEPENDS ${objects} COMMAND_EXPAND_LISTS VERBATIM COMMENT "Linking libdarkroom.a")
add_custom_target(static_library ALL DEPENDS ${static_library})
foreach(folder ${engine}) # generators other than ninja know the objects by their targets only
    add_dependencies(static_library dr_${folder})
endforeach()

# libdarkroom.so: the same objects. It is never unloaded, as the process keeps its SIGBUS handler.
set(map ${CMAKE_SOURCE_DIR}/cmake/libdarkroom.map)
add_library(shared_library SHARED ${objects})
set_target_properties(shared_library PROPERTIES OUTPUT_NAME darkroom VERSION ${PROJECT_VERSION}
    SOVERSION ${library_abi} LINK_DEPENDS ${map} LINKER_LANGUAGE C)
target_link_options(shared_library PRIVATE -Wl,--version-script=${map} -Wl,-z,nodelete)
target_link_libraries(shared_library PRIVATE PkgConfig::JANSSON PkgConfig::PNG PkgConfig::JPEG PkgConfig::WEBP
    PkgConfig::UTF8PROC PkgConfig::CRYPTO PkgConfig::ZSTD PkgConfig::XXHASH Threads::Threads m)

# What a host of libdarkroom.a links besides, by name: with Requires.private it would need the libraries' development
# packages also for the shared one, which asks for none of them.
set(private_libs)
foreach(name JANSSON PNG JPEG WEBP UTF8PROC CRYPTO ZSTD XXHASH)
    list(TRANSFORM ${name}_STATIC_LIBRARY_DIRS PREPEND -L OUTPUT_VARIABLE dirs)
    list(TRANSFORM ${name}_STATIC_LIBRARIES PREPEND -l OUTPUT_VARIABLE libs)
    list(APPEND private_libs ${dirs} ${libs})
endforeach()
list(REVERSE private_libs)
list(REMOVE_DUPLICATES private_libs) # of each the last: a library comes after those that use it
list(REVERSE private_libs)
foreach(dir ${CMAKE_C_IMPLICIT_LINK_DIRECTORIES})
    list(REMOVE_ITEM private_libs -L${dir})
endforeach()
list(JOIN private_libs " " private_libs)

file(RELATIVE_PATH up_from_pkgconfig /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
string(REGEX REPLACE "/$" "" up_from_pkgconfig "${up_from_pkgconfig}")
configure_file(cmake/darkroom.pc.in ${CMAKE_BINARY_DIR}/darkroom.pc @ONLY)
configure_package_config_file(cmake/darkroomConfig.cmake.in ${CMAKE_BINARY_DIR}/darkroomConfig.cmake
    INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/darkroom
    PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/darkroomConfigVersion.cmake COMPATIBILITY SameMinorVersion)

# The programs write their page and completions themselves, from their tables.
set(pages ${CMAKE_BINARY_DIR}/pages)
set(ask ${CMAKE_COMMAND} -E env "DARKROOM_SHARE=${CMAKE_SOURCE_DIR}/share" "XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/pages-cache"
    "XDG_CONFIG_HOME=${CMAKE_BINARY_DIR}/pages-cache")
add_custom_command(OUTPUT ${pages}/darkroom.1 ${pages}/darkroom ${pages}/_darkroom ${pages}/darkroom.fish
    COMMAND ${CMAKE_COMMAND} -E make_directory ${pages}
    COMMAND ${ask} $<TARGET_FILE:darkroom> man > ${pages}/darkroom.1
    COMMAND ${ask} $<TARGET_FILE:darkroom> completion bash > ${pages}/darkroom
    COMMAND ${ask} $<TARGET_FILE:darkroom> completion zsh > ${pages}/_darkroom
    COMMAND ${ask} $<TARGET_FILE:darkroom> completion fish > ${pages}/darkroom.fish
    DEPENDS darkroom darkroom-worker VERBATIM COMMENT "Writing the manual page and completions")
add_custom_target(pages ALL DEPENDS ${pages}/darkroom.1)

install(TARGETS darkroom darkroom-worker RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS shared_library LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${static_library} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/darkroom.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/darkroom.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_BINARY_DIR}/darkroomConfig.cmake ${CMAKE_BINARY_DIR}/darkroomConfigVersion.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/darkroom)
install(FILES ${pages}/darkroom.1 DESTINATION share/man/man1)
install(FILES ${pages}/darkroom DESTINATION share/bash-completion/completions)
install(FILES ${pages}/_darkroom DESTINATION share/zsh/site-functions)
install(FILES ${pages}/darkroom.fish DESTINATION share/fish/vendor_completions.d)
install(DIRECTORY share/ DESTINATION share/darkroom)
