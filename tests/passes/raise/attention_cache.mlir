// RUN: smelt-opt %s --raise --split-input-file | FileCheck %s

// The op extends its own cache; flat queries, grouped keys, a window of 7 positions before the query's own.
// CHECK-LABEL: func.func @main
// CHECK: slm.attention %{{.*}}, %[[K:.*]], %[[K]] {head_dim = 16 : i64, heads = 2 : i64, kv_heads = 1 : i64, layer = 0 : i64, scale = 2.500000e-01 : f64, softcap = 3.000000e+01 : f64, window = 8 : i64}
module attributes {onnx.opsets = {ai.onnx = 25 : i64}} {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %wk = onnx.weight "wk" {id = 1 : i64} : tensor<32x16xf32>
  %kf = onnx.node "MatMul" "k_proj"(%x, %wk) {} : (tensor<?x?x32xf32>, tensor<32x16xf32>) -> tensor<?x?x16xf32>
  %none = onnx.none : none
  %a:3 = onnx.node "Attention" "att"(%x, %kf, %kf, %none, %k, %v) {q_num_heads = 2 : i64, kv_num_heads = 1 : i64, is_causal = 1 : i64, left_window_size = 7 : i64, softcap = 30.0 : f32} : (tensor<?x?x32xf32>, tensor<?x?x16xf32>, tensor<?x?x16xf32>, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %a#0, %a#1, %a#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Attention" "att"{{.*}}raise.why = "its present keys and values are not outputs of the graph"
module attributes {onnx.opsets = {ai.onnx = 25 : i64}} {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %wk = onnx.weight "wk" {id = 1 : i64} : tensor<32x16xf32>
  %kf = onnx.node "MatMul" "k_proj"(%x, %wk) {} : (tensor<?x?x32xf32>, tensor<32x16xf32>) -> tensor<?x?x16xf32>
  %none = onnx.none : none
  %a:3 = onnx.node "Attention" "att"(%x, %kf, %kf, %none, %k, %v) {q_num_heads = 2 : i64, kv_num_heads = 1 : i64, is_causal = 1 : i64} : (tensor<?x?x32xf32>, tensor<?x?x16xf32>, tensor<?x?x16xf32>, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %a#0 : tensor<?x?x32xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Attention" "att"{{.*}}raise.why = "is_causal or a window counts positions without the cache here"
module attributes {onnx.opsets = {ai.onnx = 23 : i64}} {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %wk = onnx.weight "wk" {id = 1 : i64} : tensor<32x16xf32>
  %kf = onnx.node "MatMul" "k_proj"(%x, %wk) {} : (tensor<?x?x32xf32>, tensor<32x16xf32>) -> tensor<?x?x16xf32>
  %none = onnx.none : none
  %a:3 = onnx.node "Attention" "att"(%x, %kf, %kf, %none, %k, %v) {q_num_heads = 2 : i64, kv_num_heads = 1 : i64, is_causal = 1 : i64} : (tensor<?x?x32xf32>, tensor<?x?x16xf32>, tensor<?x?x16xf32>, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %a#0, %a#1, %a#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Attention" "att"{{.*}}raise.why = "before opset 25 the softcap also caps the mask"
module attributes {onnx.opsets = {ai.onnx = 23 : i64}} {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %wk = onnx.weight "wk" {id = 1 : i64} : tensor<32x16xf32>
  %kf = onnx.node "MatMul" "k_proj"(%x, %wk) {} : (tensor<?x?x32xf32>, tensor<32x16xf32>) -> tensor<?x?x16xf32>
  %none = onnx.none : none
  %a:3 = onnx.node "Attention" "att"(%x, %kf, %kf, %none, %k, %v) {q_num_heads = 2 : i64, kv_num_heads = 1 : i64, is_causal = 1 : i64, softcap = 30.0 : f32} : (tensor<?x?x32xf32>, tensor<?x?x16xf32>, tensor<?x?x16xf32>, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %a#0, %a#1, %a#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Attention" "att"{{.*}}raise.why = "it has no mask: attention to tokens of later steps is not known"
module attributes {onnx.opsets = {ai.onnx = 25 : i64}} {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %wk = onnx.weight "wk" {id = 1 : i64} : tensor<32x16xf32>
  %kf = onnx.node "MatMul" "k_proj"(%x, %wk) {} : (tensor<?x?x32xf32>, tensor<32x16xf32>) -> tensor<?x?x16xf32>
  %none = onnx.none : none
  %a:3 = onnx.node "Attention" "att"(%x, %kf, %kf, %none, %k, %v) {q_num_heads = 2 : i64, kv_num_heads = 1 : i64} : (tensor<?x?x32xf32>, tensor<?x?x16xf32>, tensor<?x?x16xf32>, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %a#0, %a#1, %a#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Attention" "att"{{.*}}raise.why = "it sees more positions on one side than on the other"
module attributes {onnx.opsets = {ai.onnx = 25 : i64}} {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %wk = onnx.weight "wk" {id = 1 : i64} : tensor<32x16xf32>
  %kf = onnx.node "MatMul" "k_proj"(%x, %wk) {} : (tensor<?x?x32xf32>, tensor<32x16xf32>) -> tensor<?x?x16xf32>
  %none = onnx.none : none
  %a:3 = onnx.node "Attention" "att"(%x, %kf, %kf, %none, %k, %v) {q_num_heads = 2 : i64, kv_num_heads = 1 : i64, left_window_size = 7 : i64, right_window_size = 1 : i64} : (tensor<?x?x32xf32>, tensor<?x?x16xf32>, tensor<?x?x16xf32>, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %a#0, %a#1, %a#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}

// -----

// CHECK-LABEL: func.func @main
// CHECK: onnx.node "Attention" "att"{{.*}}raise.why = "attribute novel is set, whose meaning is not known"
module attributes {onnx.opsets = {ai.onnx = 25 : i64}} {
func.func @main(%ids: tensor<?x?xi64> {onnx.name = "input_ids", onnx.dims = ["b", "s"]}, %mask: tensor<?x?xi64> {onnx.name = "attention_mask", onnx.dims = ["b", "t"]}, %k: tensor<?x1x?x16xf32> {onnx.name = "past.k", onnx.dims = ["b", "1", "p", "16"]}, %v: tensor<?x1x?x16xf32> {onnx.name = "past.v", onnx.dims = ["b", "1", "p", "16"]}) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) {
  %table = onnx.weight "embed" {id = 0 : i64} : tensor<256x32xf32>
  %x = onnx.node "Gather" "embed"(%table, %ids) {} : (tensor<256x32xf32>, tensor<?x?xi64>) -> tensor<?x?x32xf32>
  %wk = onnx.weight "wk" {id = 1 : i64} : tensor<32x16xf32>
  %kf = onnx.node "MatMul" "k_proj"(%x, %wk) {} : (tensor<?x?x32xf32>, tensor<32x16xf32>) -> tensor<?x?x16xf32>
  %none = onnx.none : none
  %a:3 = onnx.node "Attention" "att"(%x, %kf, %kf, %none, %k, %v) {q_num_heads = 2 : i64, kv_num_heads = 1 : i64, is_causal = 1 : i64, novel = 1 : i64} : (tensor<?x?x32xf32>, tensor<?x?x16xf32>, tensor<?x?x16xf32>, none, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>) -> (tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>)
  return %a#0, %a#1, %a#2 : tensor<?x?x32xf32>, tensor<?x1x?x16xf32>, tensor<?x1x?x16xf32>
}
}
