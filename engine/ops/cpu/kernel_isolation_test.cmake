# Fails if an object of SIMD kernels defines a weak symbol: an inline function that the linker could choose for the whole
# program, compiled with instructions that its CPU may lack.
execute_process(COMMAND ${NM} --demangle ${ARCHIVE} OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "cannot read ${ARCHIVE}")
endif()
string(REPLACE "\n" ";" lines "${symbols}")
set(member "")
set(checked 0)
foreach(line IN LISTS lines)
  if(line MATCHES "^(.*\\.o):$")
    set(member "${CMAKE_MATCH_1}")
    if(member MATCHES "kernels_avx")
      math(EXPR checked "${checked} + 1")
    endif()
  elseif(member MATCHES "kernels_avx" AND line MATCHES "^[0-9a-f]+ [WVu] (.*)$"
         AND NOT line MATCHES "DW\\.ref\\.")  # a pointer that sanitised builds emit, no code
    message(SEND_ERROR "${member} defines the weak symbol ${CMAKE_MATCH_1}")
  endif()
endforeach()
message(STATUS "${checked} objects checked")
