# stillpoint_op(NAME) registers one op: its whole column of files must exist, and each joins the target of its layer.
#   kernels/NAME/NAME.h, NAME_reference.h, NAME_cpu.cpp, NAME.cu    engine/ops/NAME.cpp
#   tests/ops/NAME_test.cpp    bench/ops/NAME_bench.cpp
# Ops are listed in kernels/CMakeLists.txt and nowhere else.
set_property(GLOBAL PROPERTY STILLPOINT_OPS "")

function(stillpoint_op name)
  foreach(file kernels/${name}/${name}.h kernels/${name}/${name}_reference.h kernels/${name}/${name}_cpu.cpp
               kernels/${name}/${name}.cu engine/ops/${name}.cpp tests/ops/${name}_test.cpp bench/ops/${name}_bench.cpp)
    if(NOT EXISTS ${PROJECT_SOURCE_DIR}/${file})
      message(FATAL_ERROR "op '${name}': its column lacks ${file} (CONTRIBUTING.md, \"Adding an op\")")
    endif()
  endforeach()
  set_property(GLOBAL APPEND PROPERTY STILLPOINT_OPS ${name})
  set(dir ${PROJECT_SOURCE_DIR}/kernels/${name})
  target_sources(stillpoint_kernels PRIVATE ${dir}/${name}_cpu.cpp)
  stillpoint_cuda_source(stillpoint_kernels ${dir}/${name}.cu)
endfunction()

# How the C++ compiler takes a .cu file for the emulation. kernels/emulation/ answers what -fsanitize adds: undefined.cpp
# the checks of alignment and array bounds, tsan.cpp those of the race check. Neither sanitizer's library is linked.
set(STILLPOINT_EMULATED_CU -x c++ -Wno-unknown-pragmas)
set(STILLPOINT_EMULATED_CU_RACES -fsanitize=thread -fno-optimize-sibling-calls --param=tsan-instrument-func-entry-exit=0
  -Wno-attributes)  # of STILLPOINT_HD, which is always_inline here and not always on an inline function
if(NOT STILLPOINT_SANITIZE)
  list(APPEND STILLPOINT_EMULATED_CU -fsanitize=alignment,bounds)
endif()

# Adds a .cu file: compiled by nvcc, or by the C++ compiler against the emulation, or not at all.
function(stillpoint_cuda_source target)
  if(STILLPOINT_CUDA STREQUAL "OFF")
    return()
  endif()
  target_sources(${target} PRIVATE ${ARGN})
  if(STILLPOINT_CUDA STREQUAL "EMULATE")
    set(options ${STILLPOINT_EMULATED_CU})
    if(STILLPOINT_RACE_CHECK)
      list(APPEND options ${STILLPOINT_EMULATED_CU_RACES})
    endif()
    if(STILLPOINT_COVERAGE)
      list(APPEND options --coverage)
    endif()
    set_source_files_properties(${ARGN} TARGET_DIRECTORY ${target} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${options}")
  endif()
endfunction()
