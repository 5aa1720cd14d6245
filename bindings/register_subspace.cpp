#include <pybind11/stl.h>

#include <memory>

#include "register.hpp"
#include "space_calls.hpp"
#include "subspace.hpp"

namespace ncode::bindings {
namespace {

std::shared_ptr<Subspace> make_subspace(const py::object& sizes, const py::object& kept) {
    std::vector<std::vector<long long>> options;
    for (const auto item : py::iter(kept)) {
        options.push_back(to_numbers(py::reinterpret_borrow<py::object>(item), "kept option"));
    }
    return std::make_shared<Subspace>(to_numbers(sizes, "size"), options);
}

std::vector<std::vector<int>> kept_of(const Subspace& subspace) {
    std::vector<std::vector<int>> kept;
    for (std::size_t p = 0; p < subspace.full().length(); ++p) {
        const auto options = subspace.kept(p);
        kept.emplace_back(options.begin(), options.end());
    }
    return kept;
}

py::array_t<bool> contains(const Subspace& subspace, const py::object& object) {
    const CodeArray codes = batch_from(object);
    auto mask = empty_mask(view(codes).rows);
    bool* out = mask.mutable_data();
    without_gil([&] { subspace.contains(view(codes), out); });
    return mask;
}

CodeArray prune(const Subspace& subspace, const py::object& object) {
    const CodeArray codes = batch_from(object);
    auto dense = empty_codes(view(codes).rows, view(codes).length);
    const CodesOut out = view_out(dense);
    without_gil([&] { subspace.prune(view(codes), out); });
    return dense;
}

// Dense digits, just made and seen by nobody else -> full digits.
CodeArray restored(const Subspace& subspace, CodeArray codes) {
    const CodesOut out = view_out(codes);
    without_gil([&] { subspace.restore(out); });
    return codes;
}

CodeArray restore(const Subspace& subspace, const py::object& dense) {
    return restored(subspace, valid_copy(subspace.dense(), dense, "codes"));
}

py::list index_of_codes(const Subspace& subspace, const py::object& codes) {
    return to_index(subspace.dense(), prune(subspace, codes));
}

CodeArray codes_of_index(const Subspace& subspace, const py::object& indices) {
    return restored(subspace, from_index(subspace.dense(), indices));
}

CodeArray enumerate_kept(const Subspace& subspace, const py::object& start, const py::object& count) {
    uint128 first = 0;
    const std::size_t rows = rows_from(subspace.dense(), start, count, first);
    auto codes = empty_codes(rows, subspace.full().length());
    const CodesOut out = view_out(codes);
    without_gil([&] { subspace.enumerate(first, out); });
    return codes;
}

CodeArray sample_kept(const Subspace& subspace, const py::object& count, const py::object& seed,
                      const py::object& start) {
    return restored(subspace, sample(subspace.dense(), count, seed, start));
}

CodeArray random_kept(const Subspace& subspace, const py::object& count, const py::object& seed) {
    return restored(subspace, random(subspace.dense(), count, seed));
}

using SubspaceClass = py::class_<Subspace, std::shared_ptr<Subspace>>;

void register_codes(SubspaceClass& subspace) {
    using namespace pybind11::literals;
    subspace
        .def("contains", &contains, "codes"_a, "Which of codes (n, L) have kept options only: (n,) bool.")
        .def("prune", &prune, "codes"_a,
             "Codes (n, L) in the subspace's own dense digits; ValueError names the first row outside.")
        .def("restore", &restore, "codes"_a, "Codes (n, L) in dense digits back to full digits.")
        .def("to_index", &index_of_codes, "codes"_a, "The indices in the subspace of codes (n, L).")
        .def("from_index", &codes_of_index, "indices"_a, "The codes (n, L) of indices in the subspace.");
}

void register_draws(SubspaceClass& subspace) {
    using namespace pybind11::literals;
    subspace
        .def("enumerate", &enumerate_kept, "start"_a, "count"_a,
             "Up to count codes (n, L) from index start on, in the order of their indices in the subspace.")
        .def("sample", &sample_kept, "count"_a, "seed"_a, "start"_a = 0,
             "Elements start to start + count of a pseudo-random permutation of the subspace: (n, L), distinct.")
        .def("random", &random_kept, "count"_a, "seed"_a, "Uniform codes (count, L), drawn with replacement.");
}

}  // namespace

void register_subspace(py::module_& module) {
    using namespace pybind11::literals;
    SubspaceClass subspace(module, "Subspace",
                           "The codes that use kept options only, renumbered in the order in which they are given.");
    subspace.def(py::init(&make_subspace), "sizes"_a, "kept"_a)
        .def_property_readonly("kept", &kept_of, "Kept options of every position.")
        .def_property_readonly("dense", [](const Subspace& self) { return std::make_shared<Space>(self.dense()); },
                               "The space of the renumbered codes.")
        .def_property_readonly("size", [](const Subspace& self) { return size_of(self.dense()); },
                               "Number of codes, exact at any magnitude.");
    register_codes(subspace);
    register_draws(subspace);
}

}  // namespace ncode::bindings
