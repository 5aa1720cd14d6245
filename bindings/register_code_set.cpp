#include <memory>

#include "arrays.hpp"
#include "code_set.hpp"
#include "register.hpp"

namespace ncode::bindings {
namespace {

// Runs one of the set's methods from codes to a mask.
template <class Set, class Method>
py::array_t<bool> masked(Set& set, Method method, const py::object& object) {
    const CodeArray codes = batch_from(object);
    auto mask = empty_mask(view(codes).rows);
    bool* out = mask.mutable_data();
    without_gil([&] { (set.*method)(view(codes), out); });
    return mask;
}

py::array_t<bool> insert(CodeSet& set, const py::object& codes) { return masked(set, &CodeSet::insert, codes); }

py::array_t<bool> contains(const CodeSet& set, const py::object& codes) {
    return masked(set, &CodeSet::contains, codes);
}

py::array_t<bool> remove(CodeSet& set, const py::object& codes) { return masked(set, &CodeSet::remove, codes); }

using CodeSetClass = py::class_<CodeSet>;

// Even a look at the size waits for the set's lock, which a long insert in another thread may hold.
using Guarded = py::call_guard<WithoutGil>;

}  // namespace

void register_code_set(py::module_& module) {
    using namespace pybind11::literals;
    CodeSetClass set(module, "CodeSet", "A set of a space's codes; safe to use from several threads at once.");
    set.def(py::init([](std::shared_ptr<Space> space) { return std::make_unique<CodeSet>(std::move(space)); }),
            py::arg("space").none(false))
        .def("insert", &insert, "codes"_a,
             "Insert codes (n, L): (n,) bool, which of them were new. Of equal codes only the first is new.")
        .def("contains", &contains, "codes"_a, "Which of codes (n, L) are in the set: (n,) bool.")
        .def("remove", &remove, "codes"_a,
             "Remove codes (n, L): (n,) bool, which of them were there. Of equal codes only the first was.")
        .def("clear", &CodeSet::clear, Guarded(), "Remove all codes and give the memory back.")
        .def("__len__", &CodeSet::size, Guarded())
        .def_property_readonly("nbytes", py::cpp_function(&CodeSet::nbytes, Guarded()), "Memory held, in bytes.");
}

}  // namespace ncode::bindings
