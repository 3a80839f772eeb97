// RUN: smelt-opt %s --slm-check-quantized -split-input-file -verify-diagnostics

func.func @complete(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %y = slm.linear %x, [%w] {name = "y", format = "s8c", activation = "a8t", packed_offset = 128 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

func.func @no_format(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  // expected-error @+2 {{has no weight format}}
  // expected-error @+1 {{has no activation precision}}
  %y = slm.linear %x, [%w] {name = "y", packed_offset = 128 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

func.func @rounded_inputs_of_exact_weights(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  // expected-error @+1 {{rounds its inputs to a8t although its weights are float32}}
  %y = slm.linear %x, [%w] {name = "y", format = "f32", activation = "a8t", packed_offset = 128 : i64} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

func.func @table_nowhere(%ids: tensor<?xi32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<64x32xf32>
  // expected-error @+1 {{has no packed weights}}
  %y = slm.embedding %ids, %w {name = "y", format = "s8c"} : tensor<?xi32>, tensor<64x32xf32> -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
