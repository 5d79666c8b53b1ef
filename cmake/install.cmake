# What `make install` puts under the prefix: the two programs, libdarkroom with its header and pkg-config file, the
# manual page, completions, and the shipped data.

# libdarkroom.a: the engine's folders as one object in which only the functions of darkroom.h have a name, so that
# none of ours meets one of the host's.
set(objects)
foreach(folder base tensor backend communication core schedulers models conditioning inference coordination)
    list(APPEND objects $<TARGET_OBJECTS:dr_${folder}>)
endforeach()
set(library ${CMAKE_BINARY_DIR}/libdarkroom.a)
add_custom_command(OUTPUT ${library}
    COMMAND ${CMAKE_LINKER} -r -o darkroom.o ${objects}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden darkroom.o
    COMMAND ${CMAKE_COMMAND} -E rm -f ${library}
    COMMAND ${CMAKE_AR} rcs ${library} darkroom.o
    DEPENDS ${objects} COMMAND_EXPAND_LISTS VERBATIM COMMENT "Linking libdarkroom.a")
add_custom_target(library ALL DEPENDS ${library})

configure_file(cmake/darkroom.pc.in ${CMAKE_BINARY_DIR}/darkroom.pc @ONLY)

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

install(TARGETS darkroom darkroom-worker RUNTIME DESTINATION bin)
install(FILES ${library} DESTINATION lib)
install(FILES include/darkroom.h DESTINATION include)
install(FILES ${CMAKE_BINARY_DIR}/darkroom.pc DESTINATION lib/pkgconfig)
install(FILES ${pages}/darkroom.1 DESTINATION share/man/man1)
install(FILES ${pages}/darkroom DESTINATION share/bash-completion/completions)
install(FILES ${pages}/_darkroom DESTINATION share/zsh/site-functions)
install(FILES ${pages}/darkroom.fish DESTINATION share/fish/vendor_completions.d)
install(DIRECTORY share/ DESTINATION share/darkroom)
