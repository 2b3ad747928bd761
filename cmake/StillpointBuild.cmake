# Compiler settings shared by every target: standard, warnings, sanitizers, coverage, output folders.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# One multiply and one add stay two roundings unless the source says fma: the same bits on every instruction set.
add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)

find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(hwy REQUIRED)
find_package(fmt REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
if(STILLPOINT_PRODUCT STREQUAL "library")
  # Debian's own dnnl-config.cmake asks for OpenCL, which the CPU library does not need.
  find_path(DNNL_INCLUDE_DIR dnnl.h REQUIRED)
  find_library(DNNL_LIBRARY dnnl REQUIRED)
  add_library(stillpoint_dnnl INTERFACE IMPORTED)
  target_include_directories(stillpoint_dnnl INTERFACE ${DNNL_INCLUDE_DIR})
  target_link_libraries(stillpoint_dnnl INTERFACE ${DNNL_LIBRARY})
elseif(NOT STILLPOINT_PRODUCT STREQUAL "reference")
  message(FATAL_ERROR "STILLPOINT_PRODUCT is '${STILLPOINT_PRODUCT}'; it takes library or reference")
endif()

if(STILLPOINT_CUDA STREQUAL "ON")
  enable_language(CUDA)
  # CMake 3.25 does not know how to ask nvcc 13 for C++20.
  foreach(kind STANDARD EXTENSION)
    if(NOT DEFINED CMAKE_CUDA20_${kind}_COMPILE_OPTION)
      set(CMAKE_CUDA20_${kind}_COMPILE_OPTION "-std=c++20")
    endif()
  endforeach()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit REQUIRED)
  # Uncompressed, so that tools/kernel_table.py finds the launch bounds in the PTX.
  add_compile_options($<$<COMPILE_LANGUAGE:CUDA>:-no-compress>)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CURRENT_LIST_DIR}/nvcc_report.sh ${CMAKE_CUDA_COMPILER_LAUNCHER})
elseif(STILLPOINT_CUDA STREQUAL "EMULATE")
  find_package(boost_context REQUIRED)
elseif(NOT STILLPOINT_CUDA STREQUAL "OFF")
  message(FATAL_ERROR "STILLPOINT_CUDA is '${STILLPOINT_CUDA}'; it takes OFF, ON or EMULATE")
endif()

add_library(stillpoint_flags INTERFACE)
target_compile_options(stillpoint_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wno-sign-conversion>
  $<$<AND:$<BOOL:${STILLPOINT_WERROR}>,$<COMPILE_LANGUAGE:CXX>>:-Werror>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;-Xptxas=-v,-warn-spills>
  $<$<AND:$<BOOL:${STILLPOINT_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings;-Xptxas=-Werror>)
# Code that no loop runs long in, of which sanitizers make the compiler's work three times as long: not optimised under them.
set(STILLPOINT_HOST_OPTIONS "")
if(STILLPOINT_SANITIZE)
  set(STILLPOINT_HOST_OPTIONS -O0)
  # Left out is what a third of the compiler's time goes to: an access through null ends the test anyway; references bound to
  # null that nobody reads, and casts to a wrong dynamic type, are not seen.
  target_compile_options(stillpoint_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${STILLPOINT_SANITIZE};-fno-sanitize=null,vptr,object-size;-fno-sanitize-recover=all;-fno-omit-frame-pointer>)
  target_link_options(stillpoint_flags INTERFACE -fsanitize=${STILLPOINT_SANITIZE})
endif()
if(STILLPOINT_COVERAGE)
  target_link_options(stillpoint_flags INTERFACE --coverage)
endif()
