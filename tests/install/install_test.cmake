# cmake -DBUILD=<build tree> -DSOURCE=<source tree> -DCOMPILER=<c++> -P install_test.cmake
# Installs the build into an empty folder, builds the project beside this file against it and runs its program.
set(work ${BUILD}/install_test)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${work}/prefix)
file(GLOB_RECURSE package ${work}/prefix/*.cmake)
foreach(file IN LISTS package)
  file(READ ${file} text)
  string(FIND "${text}" "${SOURCE}" found)
  if(NOT found EQUAL -1)
    message(FATAL_ERROR "${file} points back into the source tree")
  endif()
endforeach()

run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${work}/user -G Ninja -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_PREFIX_PATH=${work}/prefix)
run(${CMAKE_COMMAND} --build ${work}/user)
run(${work}/user/user)
if(NOT output STREQUAL "2 4 6 ")
  message(FATAL_ERROR "the program printed '${output}', wanted '2 4 6 '")
endif()
run(${work}/prefix/bin/stillpoint --version)
