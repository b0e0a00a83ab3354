# Target helpers. Each names its dependencies; link alias names (conclave::x) only.
#
#   conclave_cc_library(NAME x [HDRS ..] [SRCS ..] [DEPS ..] [PCH none])       -> conclave_x, alias conclave::x
#   conclave_cc_test(NAME x_test SRCS .. [DEPS ..] [LABELS ..] [TIMEOUT s])    -> ctest x_test
#   conclave_cc_binary(NAME conclave-worker SRCS .. DEPS ..)                   -> build/bin/conclave-worker
#   conclave_cc_benchmark(NAME x_bench SRCS .. DEPS ..)                        -> build/bin/x_bench
#   conclave_cc_fuzzer(NAME x_fuzz SRCS .. DEPS .. CORPUS dir)                 -> libFuzzer binary, or a corpus replay test
#   conclave_proto_library(NAME x PROTOS .. [DEPS ..] [GRPC])                  -> generated code as a SYSTEM target

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

# Two precompiled headers, shared by every target: the standard library, and the same with GoogleTest.
file(WRITE ${CMAKE_BINARY_DIR}/pch/empty.cc "")
add_library(conclave_pch STATIC ${CMAKE_BINARY_DIR}/pch/empty.cc)
target_link_libraries(conclave_pch PUBLIC absl::status absl::statusor PRIVATE conclave::warnings)
target_precompile_headers(conclave_pch PRIVATE
  <algorithm> <array> <atomic> <cstdint> <cstring> <deque> <functional> <map> <memory> <optional> <span> <string>
  <string_view> <unordered_map> <utility> <variant> <vector> <absl/status/status.h> <absl/status/statusor.h>)
if(CONCLAVE_BUILD_TESTS)
  add_library(conclave_test_pch STATIC ${CMAKE_BINARY_DIR}/pch/empty.cc)
  target_link_libraries(conclave_test_pch PUBLIC GTest::gtest GTest::gmock absl::status absl::statusor PRIVATE conclave::warnings)
  target_precompile_headers(conclave_test_pch PRIVATE
    <algorithm> <cstdint> <functional> <map> <memory> <optional> <span> <string> <string_view> <utility> <variant>
    <vector> <absl/status/status.h> <absl/status/statusor.h> <gmock/gmock.h> <gtest/gtest.h>)
endif()

function(conclave_cc_library)
  cmake_parse_arguments(A "" "NAME;PCH" "HDRS;SRCS;DEPS" ${ARGN})
  set(target conclave_${A_NAME})
  if(A_SRCS)
    add_library(${target} STATIC ${A_SRCS} ${A_HDRS})
    target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
    target_link_libraries(${target} PUBLIC ${A_DEPS} PRIVATE conclave::warnings)
    if(NOT A_PCH STREQUAL "none")
      target_link_libraries(${target} PUBLIC absl::status absl::statusor)
      target_precompile_headers(${target} REUSE_FROM conclave_pch)
    endif()
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${target} INTERFACE ${A_DEPS})
  endif()
  add_library(conclave::${A_NAME} ALIAS ${target})
endfunction()

function(conclave_cc_binary)
  cmake_parse_arguments(A "" "NAME" "SRCS;DEPS" ${ARGN})
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} conclave::warnings)
endfunction()

function(conclave_cc_test)
  if(NOT CONCLAVE_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(A "" "NAME;TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} GTest::gtest GTest::gmock GTest::gtest_main conclave::warnings
    absl::status absl::statusor)
  target_precompile_headers(${A_NAME} REUSE_FROM conclave_test_pch)
  # Tests read sources and shared data by path: CONCLAVE_SOURCE_DIR is the checkout, CONCLAVE_BINARY_DIR the build.
  target_compile_definitions(${A_NAME} PRIVATE
    CONCLAVE_SOURCE_DIR="${CMAKE_SOURCE_DIR}" CONCLAVE_BINARY_DIR="${CMAKE_BINARY_DIR}")
  add_test(NAME ${A_NAME} COMMAND ${A_NAME} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(${A_NAME} PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "${A_LABELS}")
  if("${CONCLAVE_SANITIZE}" MATCHES thread)  # see tests/tsan.supp
    set_tests_properties(${A_NAME} PROPERTIES ENVIRONMENT
      "TSAN_OPTIONS=ignore_noninstrumented_modules=1 suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp")
  endif()
endfunction()

function(conclave_cc_benchmark)
  if(NOT CONCLAVE_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(A "" "NAME" "SRCS;DEPS" ${ARGN})
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} benchmark::benchmark conclave::warnings)
  target_compile_definitions(${A_NAME} PRIVATE CONCLAVE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
endfunction()

# A fuzz target defines LLVMFuzzerTestOneInput. With CONCLAVE_FUZZ (clang) it becomes a libFuzzer binary; always, it
# also becomes a test that replays every file of its corpus directory.
function(conclave_cc_fuzzer)
  if(NOT CONCLAVE_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(A "" "NAME;CORPUS" "SRCS;DEPS" ${ARGN})
  if(CONCLAVE_FUZZ)
    add_executable(${A_NAME} ${A_SRCS})
    target_compile_options(${A_NAME} PRIVATE -fsanitize=fuzzer)
    target_link_options(${A_NAME} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} conclave::warnings)
  else()
    add_executable(${A_NAME} ${A_SRCS} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.cc)
    target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} conclave::warnings)
    add_test(NAME ${A_NAME}_replay COMMAND ${A_NAME} ${A_CORPUS} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${A_NAME}_replay PROPERTIES TIMEOUT 120 LABELS fuzz)
  endif()
endfunction()

function(conclave_proto_library)
  cmake_parse_arguments(A "GRPC" "NAME" "PROTOS;DEPS" ${ARGN})
  set(target conclave_${A_NAME})
  set(out ${CMAKE_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${out})
  set(sources)
  foreach(proto ${A_PROTOS})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    set(generated ${out}/${stem}.pb.cc ${out}/${stem}.pb.h)
    set(flags --cpp_out=${out})
    if(A_GRPC)
      list(APPEND generated ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
      list(APPEND flags --grpc_out=${out} --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin>)
    endif()
    add_custom_command(OUTPUT ${generated}
      COMMAND protobuf::protoc ${flags} -I ${CMAKE_SOURCE_DIR}/protos ${CMAKE_SOURCE_DIR}/protos/${proto}
      DEPENDS ${CMAKE_SOURCE_DIR}/protos/${proto} VERBATIM)
    list(APPEND sources ${generated})
  endforeach()
  add_library(${target} STATIC ${sources})
  target_include_directories(${target} SYSTEM PUBLIC ${out})
  target_link_libraries(${target} PUBLIC protobuf::libprotobuf ${A_DEPS})
  if(A_GRPC)
    target_link_libraries(${target} PUBLIC gRPC::grpc++)
  endif()
  add_library(conclave::${A_NAME} ALIAS ${target})
endfunction()
