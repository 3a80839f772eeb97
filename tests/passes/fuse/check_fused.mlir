// RUN: smelt-opt %s --check-fused --split-input-file --verify-diagnostics

func.func @residual_left(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  %w = slm.weight "w" {id = 0 : i64, row_stride = 32 : i64} : tensor<32x32xf32>
  %l = slm.linear %x, [%w] {name = "o"} : tensor<?x32xf32>, [tensor<32x32xf32>] -> tensor<?x32xf32>
  // expected-error @below {{adds to a linear that could take it as residual}}
  %y = slm.add %x, %l : tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

func.func @onnx_left(%x: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // expected-error @below {{is not an op of the model dialect; raise comes before fuse}}
  %y = onnx.node "Erf" "e" (%x) {} : (tensor<?x32xf32>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}
