// Ops that make tensors from shapes and numbers.
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

Values shape(Builder &b) {
  int64_t rank = b.rank(b.input(0));
  auto bound = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank); };
  int64_t first = bound(b.integer("start", 0)), end = bound(b.integer("end", rank));
  return {b.dimsOf(b.input(0), first, std::max<int64_t>(0, end - first))};
}

Values plainMaker(Builder &b) {
  Values inputs;
  for (unsigned i = 0; i < b.inputs(); ++i) {
    Value value = b.input(i);
    // Range's numbers may have rank 1.
    inputs.push_back(b.node().getType() == "Range" && b.rank(value) == 1 ? b.squeeze(value, {0})
                                                                         : value);
  }
  return {b.make(b.node().getType(), inputs)};
}

Values constantOfShape(Builder &b) {
  auto value = b.node().getNodeAttributes().getAs<ElementsAttr>("value");
  Attribute zero = DenseElementsAttr::get(RankedTensorType::get({1}, b.at.getF32Type()), 0.0f);
  Attributes attributes;
  attributes.attribute("value", value ? Attribute(value) : zero);
  auto type = dyn_cast<RankedTensorType>(b.node()->getResult(0).getType());
  return {b.makeAll("ConstantOfShape", {b.toI64(b.input(0))}, attributes, 1,
                    type ? type.getRank() : -1)[0]};
}

Values oneHot(Builder &b) {
  Value indices = b.input(0), depth = b.input(1);
  auto known = [&](Value value) {
    Type element = b.element(value);
    return element && (element.isInteger(64) || element.isInteger(32) || element.isF32())
               ? value
               : b.toI64(value);
  };
  int64_t rank = b.rank(indices);
  return {b.make("OneHot", {known(indices), known(depth), b.input(2)},
                 Attributes().integer("axis", b.axis(b.integer("axis", -1), rank + 1)))};
}

Values eyeLike(Builder &b) {
  int64_t type = b.integer("dtype", 0);
  return {b.make("EyeLike", {b.input(0)},
                 Attributes()
                     .integer("k", b.integer("k", 0))
                     .integer("dtype", type ? type : onnxTypeOf(b.element(b.input(0)))))};
}

} // namespace smelt::tensor
