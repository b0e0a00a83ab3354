# The CUDA toolkit: found, wanted or done without. Kernels are compiled by nvcc through conclave_cuda_library; programs
# link the static runtime only, so they start on machines without CUDA (cuBLASLt is loaded when a device is used).
set(CONCLAVE_CUDA "AUTO" CACHE STRING "CUDA kernels: ON, OFF, or AUTO (where nvcc is found)")
set(CONCLAVE_CUDA_ARCHITECTURES "80;89;90" CACHE STRING "Compute capabilities to compile for; PTX of the last is added")
set(CONCLAVE_HAS_CUDA OFF)
if(NOT CONCLAVE_CUDA STREQUAL "OFF")
  find_program(NVCC_PROGRAM nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(NVCC_PROGRAM)
    get_filename_component(cuda_real ${NVCC_PROGRAM} REALPATH)
    get_filename_component(cuda_bin ${cuda_real} DIRECTORY)
    get_filename_component(cuda_root ${cuda_bin} DIRECTORY)
    find_path(CONCLAVE_CUDA_INCLUDE cublasLt.h
      HINTS ${cuda_root} /usr/local/cuda PATH_SUFFIXES include targets/x86_64-linux/include)
    find_library(CONCLAVE_CUDA_RUNTIME cudart_static
      HINTS ${cuda_root} /usr/local/cuda PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib)
  endif()
  if(NVCC_PROGRAM AND CONCLAVE_CUDA_INCLUDE AND CONCLAVE_CUDA_RUNTIME)
    set(CONCLAVE_HAS_CUDA ON)
    message(STATUS "CUDA kernels: with ${NVCC_PROGRAM}, for ${CONCLAVE_CUDA_ARCHITECTURES}")
  elseif(CONCLAVE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "CONCLAVE_CUDA is ON, but the toolkit is incomplete: nvcc ${NVCC_PROGRAM}, "
      "cublasLt.h ${CONCLAVE_CUDA_INCLUDE}, cudart_static ${CONCLAVE_CUDA_RUNTIME}")
  else()
    message(WARNING "No CUDA toolkit found: building WITHOUT the CUDA backend. Its kernels are not even compiled; "
      "put nvcc on PATH or in /usr/local/cuda to include them.")
  endif()
endif()

set(CONCLAVE_NVCC_FLAGS -std=c++20 -O3 -lineinfo --expt-relaxed-constexpr -Xcompiler=-fPIE,-Wall)
if(CONCLAVE_WERROR)
  list(APPEND CONCLAVE_NVCC_FLAGS --Werror all-warnings)
endif()
set(CONCLAVE_NVCC_TARGETS)
foreach(architecture ${CONCLAVE_CUDA_ARCHITECTURES})
  list(APPEND CONCLAVE_NVCC_TARGETS -gencode arch=compute_${architecture},code=sm_${architecture})
  set(last_architecture ${architecture})
endforeach()
list(APPEND CONCLAVE_NVCC_TARGETS -gencode arch=compute_${last_architecture},code=compute_${last_architecture})

# conclave_cuda_library(NAME x SRCS a.cu b.cu [ARCHITECTURES 90a]): a static library of kernels, alias conclave::x. With
# ARCHITECTURES, for these only: code that exists on one generation is chosen when it runs.
function(conclave_cuda_library)
  cmake_parse_arguments(A "" "NAME" "SRCS;ARCHITECTURES" ${ARGN})
  set(objects)
  set(targets ${CONCLAVE_NVCC_TARGETS})
  if(A_ARCHITECTURES)
    set(targets)
    foreach(architecture ${A_ARCHITECTURES})
      list(APPEND targets -gencode arch=compute_${architecture},code=sm_${architecture})
    endforeach()
  endif()
  foreach(source ${A_SRCS})
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${source}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${CCACHE_PROGRAM} ${NVCC_PROGRAM} ${CONCLAVE_NVCC_FLAGS} ${targets} -I ${CMAKE_SOURCE_DIR} -MD -MF ${object}.d
              -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} DEPFILE ${object}.d
      COMMENT "Compiling CUDA ${source}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  add_library(conclave_${A_NAME} STATIC ${objects})
  set_target_properties(conclave_${A_NAME} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(conclave_${A_NAME} PUBLIC ${CONCLAVE_CUDA_RUNTIME} Threads::Threads ${CMAKE_DL_LIBS} rt)
  add_library(conclave::${A_NAME} ALIAS conclave_${A_NAME})
endfunction()
