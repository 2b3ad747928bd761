# Libraries, headers, programs and a package: find_package(stillpoint), then link stillpoint::engine or stillpoint::models
# and include as the tree does, "engine/tensor.h".
include(CMakePackageConfigHelpers)

set(installed stillpoint_kernels stillpoint_engine stillpoint_models stillpoint_flags)
if(TARGET stillpoint_emulation)
  list(APPEND installed stillpoint_emulation)
endif()
foreach(target IN LISTS installed)
  string(REGEX REPLACE "^stillpoint_" "" short_name ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${short_name})
endforeach()
install(TARGETS ${installed} EXPORT stillpointTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT stillpointTargets NAMESPACE stillpoint:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/stillpoint)

install(DIRECTORY kernels engine models DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/stillpoint
        FILES_MATCHING PATTERN "*.h" PATTERN "*-inl.h" EXCLUDE PATTERN "emulation" EXCLUDE PATTERN "ladder" EXCLUDE)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/stillpointConfig.cmake.in ${CMAKE_BINARY_DIR}/stillpointConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/stillpoint)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/stillpointConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/stillpointConfig.cmake ${CMAKE_BINARY_DIR}/stillpointConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/stillpoint)
