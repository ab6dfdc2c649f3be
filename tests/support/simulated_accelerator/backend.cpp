// An accelerator that is none: tensors of the device "simulated" lie in host memory, and its
// kernels are the CPU's.
//
// What a real device would not do is refused (tensors of two devices in one operation), what would
// cost time is counted (copies between host and device, reads that make the host wait), and its
// memory can be as small as a test wants.

#include <ATen/ATen.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <limits>

namespace {

using at::Tensor;
constexpr auto KIND = c10::DeviceType::PrivateUse1;

// ---- counters and memory

std::atomic<int64_t> to_device{0}, to_host{0}, waits{0};
std::atomic<int64_t> in_use{0}, memory{std::numeric_limits<int64_t>::max()};
std::atomic<int64_t> devices{0};
thread_local c10::DeviceIndex current = 0;

struct Block {  // memory of the device: the host tensor that holds it
  Tensor host;
  int64_t bytes;
  Block(Tensor tensor) : host(std::move(tensor)), bytes(host.storage().nbytes()) {
    TORCH_CHECK_WITH(OutOfMemoryError, in_use + bytes <= memory, "simulated out of memory: ", bytes,
                     " bytes wanted, ", memory - in_use, " free");
    in_use += bytes;
  }
  ~Block() { in_use -= bytes; }
};

c10::Device here() { return {KIND, current}; }

// The memory of a new host tensor, as the device's.
c10::Storage moved(const Tensor& host, c10::Device device) {
  auto block = std::make_unique<Block>(host);
  auto* address = host.storage().mutable_data();
  auto free = [](void* block) { delete static_cast<Block*>(block); };
  c10::DataPtr data(address, block.release(), free, device);
  return c10::Storage(c10::Storage::use_byte_size_t(), host.storage().nbytes(), std::move(data),
                      nullptr, false);
}

// A tensor of the same shape, type and flags in another place.
Tensor placed(const Tensor& tensor, c10::Storage storage, c10::DispatchKey key) {
  Tensor result = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(key), tensor.dtype());
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  result._set_conj(tensor.is_conj());
  result._set_neg(tensor.is_neg());
  return result;
}

// The host's view of a tensor of the device: the same memory.
Tensor on_host(const Tensor& tensor) {
  const auto& storage = tensor.storage();
  c10::DataPtr data(const_cast<void*>(storage.data()), c10::Device(c10::kCPU));
  c10::Storage same(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data),
                    c10::GetCPUAllocator(), true);
  return placed(tensor, std::move(same), c10::DispatchKey::CPU);
}

Tensor on_device(const Tensor& host, c10::Device device) {
  return placed(host, moved(host, device), c10::DispatchKey::PrivateUse1);
}

// ---- every operation without a kernel of its own: the CPU's on the same memory

struct Call {
  const c10::OperatorHandle& op;
  std::vector<std::pair<Tensor, Tensor>> pairs;  // (of the device, on the host)
  c10::Device device = here();
  bool mixed = false;

  Tensor enter(const Tensor& tensor) {
    if (!tensor.defined()) return tensor;
    if (tensor.device().type() != KIND) {
      mixed = mixed || tensor.dim() > 0;  // a number may come from the host
      return tensor;
    }
    TORCH_CHECK(pairs.empty() || tensor.device() == device, op.operator_name(), ": tensors on ",
                device, " and ", tensor.device());
    device = tensor.device();
    pairs.emplace_back(tensor, on_host(tensor));
    return pairs.back().second;
  }

  Tensor leave(const Tensor& host) {
    if (!host.defined()) return host;
    for (auto& [mine, alias] : pairs) {
      if (host.is_same(alias)) return mine;  // in place, or out=
      if (host.storage().is_alias_of(alias.storage()))  // a view
        return placed(host, mine.storage(), c10::DispatchKey::PrivateUse1);
    }
    return on_device(host, device);
  }

  // A kernel may have given a result of out= another shape.
  void resize() {
    for (auto& [mine, alias] : pairs) {
      auto* impl = mine.unsafeGetTensorImpl();
      if (alias.storage().data() != mine.storage().data())
        impl->set_storage_keep_dtype(moved(alias, device));
      if (alias.sizes() != mine.sizes() || alias.strides() != mine.strides())
        impl->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
    }
  }
};

template <class Change>
c10::IValue changed(const c10::IValue& value, Change change) {
  if (value.isTensor()) return change(value.toTensor());
  if (value.isTensorList()) {
    c10::List<Tensor> list;
    for (const Tensor& tensor : value.toTensorVector()) list.push_back(change(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<Tensor>> list;
    for (const auto& tensor : value.toOptionalTensorVector())
      list.push_back(tensor ? std::optional<Tensor>(change(*tensor)) : std::nullopt);
    return list;
  }
  return value;
}

// Results whose size depends on the numbers.
bool makes_the_host_wait(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& name = op.schema().name();
  if (name == "aten::nonzero" || name == "aten::masked_select" || name == "aten::equal" ||
      name.find("unique") != std::string::npos) return true;
  if (name.find("index_put") == std::string::npos) return false;  // others go by way of nonzero
  for (const auto& value : stack)
    if (value.isOptionalTensorList())
      for (const auto& index : value.toOptionalTensorVector())
        if (index && index->scalar_type() == at::kBool) return true;
  return false;
}

void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const size_t inputs = schema.arguments().size(), first = stack->size() - inputs;
  torch::jit::Stack arguments(stack->begin() + first, stack->end());
  waits += makes_the_host_wait(op, arguments);
  Call call{op};
  for (auto& value : arguments) {
    value = changed(value, [&](const Tensor& tensor) { return call.enter(tensor); });
    if (value.isDevice()) {
      if (value.toDevice().has_index()) call.device = value.toDevice();
      value = c10::Device(c10::kCPU);
    }
  }
  TORCH_CHECK(!call.mixed, "Expected all tensors to be on the same device, but ",
              op.operator_name(), " found some on the host and some on ", call.device);
  op.callBoxed(arguments);
  call.resize();
  torch::jit::drop(*stack, inputs);
  for (const auto& value : arguments)
    stack->push_back(changed(value, [&](const Tensor& tensor) { return call.leave(tensor); }));
}

// ---- what needs a kernel of its own: memory, and the ways between host and device

c10::Device wanted(std::optional<c10::Device> device) {
  return device && device->has_index() ? *device : here();
}

Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
             std::optional<c10::Device> device, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return on_device(at::empty(size, at::dtype(type.value_or(at::kFloat)), format), wanted(device));
}

Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                     std::optional<at::ScalarType> type, std::optional<at::Layout>,
                     std::optional<c10::Device> device, std::optional<bool>) {
  auto options = at::dtype(type.value_or(at::kFloat));
  return on_device(at::empty_strided(size, stride, options), wanted(device));
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  const bool reads = from.device().type() == KIND, writes = to.device().type() == KIND;
  to_host += reads && !writes;
  waits += reads && !writes;
  to_device += writes && !reads;
  at::AutoDispatchBelowADInplaceOrView guard;
  (writes ? on_host(to) : to).copy_(reads ? on_host(from) : from);
  return to;
}

at::Scalar local_scalar_dense(const Tensor& tensor) {
  ++to_host;
  ++waits;
  return on_host(tensor).item();
}

// ---- what torch wants to know of a device

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device device) const override {
    auto before = here();
    current = device.index();
    return before;
  }
  c10::Device getDevice() const override { return here(); }
  void setDevice(c10::Device device) const override { current = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = device.index(); }
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return devices; }
};

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return devices > 0; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return devices; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex index) const override { current = index; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    return std::exchange(current, index);
  }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return std::exchange(current, index);
  }
};

const bool registered = [] {
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  return true;
}();
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  // torch would put it together from other operations, which round otherwise
  m.impl("silu_backward", torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

// A copy conjugates and negates by itself; torch would copy first to do it, for ever.
TORCH_LIBRARY_IMPL(aten, Conjugate, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}
TORCH_LIBRARY_IMPL(aten, Negative, m) {
  m.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY(simulated, m) {
  m.def("set_devices(int count) -> ()", [](int64_t count) { devices = count; });
  m.def("devices() -> int", [] { return devices.load(); });
  m.def("current_device() -> int", []() -> int64_t { return current; });
  m.def("set_device(int index) -> ()",
        [](int64_t index) { current = static_cast<c10::DeviceIndex>(index); });
  m.def("set_memory(int bytes) -> ()", [](int64_t bytes) { memory = bytes; });
  m.def("memory_in_use() -> int", [] { return in_use.load(); });
  m.def("counts() -> int[]", [] { return std::vector<int64_t>{to_device, to_host, waits}; });
}

}  // namespace
