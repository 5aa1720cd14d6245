#include "arrays.hpp"
#include "hash.hpp"
#include "register.hpp"

namespace ncode::bindings {
namespace {

py::array_t<std::uint64_t> hash64_batch(const py::object& object) {
    const CodeArray codes = batch_from(object);
    py::array_t<std::uint64_t> hashes(codes.shape(0));
    auto* out = hashes.mutable_data();
    without_gil([&] { hash64(view(codes), out); });
    return hashes;
}

py::array_t<std::uint64_t> hash128_batch(const py::object& object) {
    const CodeArray codes = batch_from(object);
    py::array_t<std::uint64_t> hashes({codes.shape(0), py::ssize_t{2}});
    auto* out = hashes.mutable_data();
    without_gil([&] { hash128(view(codes), out); });
    return hashes;
}

}  // namespace

void register_hash(py::module_& module) {
    using namespace pybind11::literals;
    module.def("hash64", &hash64_batch, "codes"_a,
               "Stable hashes of codes (n, L): (n,) uint64, the same on every platform and in every version.");
    module.def("hash128", &hash128_batch, "codes"_a,
               "Stable 128-bit hashes of codes (n, L): (n, 2) uint64, high then low. The high half is hash64.");
}

}  // namespace ncode::bindings
