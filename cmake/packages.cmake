# The .deb: `cpack` in a build folder of the release preset. Both programs stand in /usr/lib/croft, since the agent looks for the executor
# beside itself; /usr/bin has a link.
set(CROFT_PACKAGE_VERSION "" CACHE STRING "version of the package; default: the project's")
if(NOT CROFT_PACKAGE_VERSION)
  set(CROFT_PACKAGE_VERSION ${PROJECT_VERSION})
endif()

install(TARGETS croft croft-executor RUNTIME DESTINATION lib/croft)
install(PROGRAMS deploy/systemd/hold-cgroup DESTINATION lib/croft)
install(CODE "
  file(MAKE_DIRECTORY \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin)
  file(CREATE_LINK ../lib/croft/croft \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/bin/croft SYMBOLIC)")
file(GLOB units CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/deploy/systemd/croft*)
install(FILES ${units} DESTINATION /lib/systemd/system)
install(FILES deploy/croft.toml DESTINATION /etc/croft)
install(FILES deploy/croft.toml DESTINATION share/doc/croft)
install(FILES deploy/completion/croft.bash DESTINATION share/bash-completion/completions RENAME croft)
install(FILES docs/operations.md docs/architecture.md README.md DESTINATION share/doc/croft)
find_program(CROFT_PYTHON python3)
if(CROFT_PYTHON)  # the bill of materials needs it
  install(CODE "
    execute_process(COMMAND ${CROFT_PYTHON} ${PROJECT_SOURCE_DIR}/deploy/sbom.py ${CROFT_PACKAGE_VERSION} $<TARGET_FILE:croft> $<TARGET_FILE:croft-executor>
      OUTPUT_FILE ${CMAKE_BINARY_DIR}/croft.spdx.json COMMAND_ERROR_IS_FATAL ANY)")
  install(FILES ${CMAKE_BINARY_DIR}/croft.spdx.json DESTINATION share/doc/croft)
endif()
install(FILES LICENSE DESTINATION share/doc/croft RENAME copyright)
install(DIRECTORY examples/fibonacci/ DESTINATION share/doc/croft/examples/fibonacci FILES_MATCHING PATTERN "*.json")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME croft)
set(CPACK_PACKAGE_VERSION ${CROFT_PACKAGE_VERSION})
set(CPACK_PACKAGE_CONTACT "croft <croft@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "a few Linux servers as one computer that runs services")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR OFF)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "adduser, init-system-helpers")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "haproxy, docker.io")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA "${PROJECT_SOURCE_DIR}/deploy/debian/postinst;${PROJECT_SOURCE_DIR}/deploy/debian/prerm;${PROJECT_SOURCE_DIR}/deploy/debian/postrm;${PROJECT_SOURCE_DIR}/deploy/debian/conffiles")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
