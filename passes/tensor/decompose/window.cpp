// Convolutions and pools over [batch, channels, spatial...].
#include "passes/tensor/decompose/decompose.h"

using namespace mlir;

namespace smelt::tensor {

namespace {

/// Kernel, strides, dilations and pads of the node, one for each spatial axis.
struct Window {
  SmallVector<int64_t> kernel, strides, dilations, pads;

  Attributes attributes() const {
    return Attributes()
        .ints("kernel_shape", kernel)
        .ints("strides", strides)
        .ints("dilations", dilations)
        .ints("pads", pads);
  }
};

std::optional<Window> windowOf(Builder &b, Value x, SmallVector<int64_t> kernel) {
  size_t spatial = kernel.size();
  auto list = [&](StringRef name, size_t count, int64_t otherwise) {
    return b.ints(name).value_or(SmallVector<int64_t>(count, otherwise));
  };
  Window window{std::move(kernel), list("strides", spatial, 1), list("dilations", spatial, 1),
                list("pads", 2 * spatial, 0)};
  if (int64_t(spatial) + 2 != b.rank(x) || window.strides.size() != spatial ||
      window.dilations.size() != spatial || window.pads.size() != 2 * spatial) {
    b.fail("its attributes do not fit its rank");
    return std::nullopt;
  }
  for (size_t i = 0; i < spatial; ++i)
    if (window.kernel[i] < 1 || window.strides[i] < 1 || window.dilations[i] < 1) {
      b.fail("its kernel, strides and dilations must be known and positive");
      return std::nullopt;
    }
  std::string autoPad = b.string("auto_pad", "NOTSET");
  if (autoPad == "SAME_UPPER" || autoPad == "SAME_LOWER")
    for (size_t i = 0; i < spatial; ++i) {
      int64_t length = b.dim(x, int64_t(i) + 2),
              extent = window.dilations[i] * (window.kernel[i] - 1) + 1;
      if (length == dynamic && window.strides[i] != 1) {
        b.fail("its padding depends on dimensions that are not known");
        return std::nullopt;
      }
      int64_t stride = window.strides[i];
      int64_t total = stride == 1
                          ? extent - 1
                          : std::max<int64_t>(0, ((length + stride - 1) / stride - 1) * stride +
                                                     extent - length);
      bool isUpper = autoPad == "SAME_UPPER";
      window.pads[i] = isUpper ? total / 2 : total - total / 2;
      window.pads[spatial + i] = total - window.pads[i];
    }
  return window;
}

SmallVector<int64_t> kernelOf(Builder &b, Value w) {
  SmallVector<int64_t> kernel;
  for (int64_t i = 2; i < b.rank(w); ++i)
    kernel.push_back(b.dim(w, i) == dynamic ? 0 : b.dim(w, i));
  return kernel;
}

} // namespace

Values conv(Builder &b) {
  Value x = b.input(0), w = b.input(1);
  std::optional<Window> window = windowOf(b, x, b.ints("kernel_shape").value_or(kernelOf(b, w)));
  if (!window)
    return {};
  Value y = b.make("Conv", {x, w, b.input(2)},
                   window->attributes().integer("group", b.integer("group", 1)));
  if (b.node().getDomain().empty())
    return {y};
  std::string activation = b.string("activation", "");
  if (b.input(3) || (activation != "Relu" && activation != "Tanh" && activation != "Sigmoid"))
    return {b.fail("activation \"" + activation + "\" is not supported")};
  return {b.unary(activation, y)};
}

Values pool(Builder &b) {
  StringRef type = b.node().getType();
  Value x = b.input(0);
  if (type.starts_with("Global")) {
    SmallVector<int64_t> axes;
    for (int64_t i = 2; i < b.rank(x); ++i)
      axes.push_back(i);
    return {b.reduce(type == "GlobalMaxPool" ? "ReduceMax" : "ReduceMean", x, axes)};
  }
  if (b.node()->getNumResults() > 1 && b.uses(1))
    return {b.fail("its indices are read")};
  std::optional<Window> window =
      windowOf(b, x, b.ints("kernel_shape").value_or(SmallVector<int64_t>()));
  if (!window)
    return {};
  Values results{b.make(type, {x},
                        window->attributes()
                            .integer("ceil_mode", b.integer("ceil_mode", 0) != 0)
                            .integer("count_include_pad", b.integer("count_include_pad", 0) != 0))};
  results.resize(b.node()->getNumResults());
  return results;
}

// y[b, c, t] = activation(bias[c] + sum_k w[c, 0, k] * s[b, c, t + k]), s = past then x;
// the state to come is the end of s
Values causalConv(Builder &b) {
  Value x = b.input(0), w = b.input(1), past = b.input(3);
  int64_t channels = b.dim(w, 0), kernel = b.dim(w, 2);
  if (b.rank(x) != 3 || b.rank(w) != 3 || channels == dynamic || kernel == dynamic ||
      b.integer("state_window", 0) > 0 || b.integer("ndim", 1) != 1)
    return {b.fail("only one state of one spatial axis, with a known kernel, is supported")};
  Value s = past ? b.concat({past, x}, 2)
                 : b.make("Pad", {x, b.i64({0, 0, kernel - 1, 0, 0, 0})},
                          Attributes().integer("mode", 0).ints("axes", {}));
  Value y = b.make("Conv", {s, w, b.input(2)},
                   Attributes()
                       .ints("kernel_shape", {kernel})
                       .ints("strides", {1})
                       .ints("dilations", {1})
                       .ints("pads", {0, 0})
                       .integer("group", channels));
  std::string kind = b.string("activation", "none");
  if (kind == "silu" || kind == "swish")
    y = silu(b, y);
  else if (kind != "none" && !kind.empty())
    return {b.fail("activation \"" + kind + "\" is not known")};
  Values results{y, b.slice(s, 2, b.sub(b.dimOf(s, 2), double(kernel - 1)), b.i64(toTheEnd))};
  results.resize(b.node()->getNumResults());
  return results;
}

} // namespace smelt::tensor
