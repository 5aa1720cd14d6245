#include <memory>

#include "canonical.hpp"
#include "condition_rules.hpp"
#include "items.hpp"
#include "register.hpp"
#include "space_calls.hpp"

namespace ncode::bindings {
namespace {

CellRule to_cell(const py::handle& object) {
    const py::tuple items = items_of(object, 3, "a cell");
    CellRule rule{{}, to_number(items[1], "option"), to_number(items[2], "option")};
    for (const auto edge : py::iter(items[0])) {
        const auto numbers = to_numbers(items_of(edge, 3, "an edge"), "an edge's number");
        rule.edges.push_back({numbers[0], numbers[1], numbers[2]});
    }
    return rule;
}

std::vector<CellRule> to_cells(const py::object& objects) {
    std::vector<CellRule> rules;
    for (const auto object : py::iter(objects)) {
        rules.push_back(to_cell(object));
    }
    return rules;
}

std::vector<GroupRule> to_groups(const py::object& objects) {
    std::vector<GroupRule> rules;
    for (const auto group : py::iter(objects)) {
        rules.emplace_back();
        for (const auto member : py::iter(group)) {
            rules.back().push_back(to_numbers(py::reinterpret_borrow<py::object>(member), "position"));
        }
    }
    return rules;
}

std::unique_ptr<Canonical> make_canonical(std::shared_ptr<Space> space, const py::object& conditions,
                                          const py::object& cells, const py::object& groups,
                                          const py::object& table_codes) {
    const EqualityRules rules{to_conditions(conditions), to_cells(cells), to_groups(groups)};
    return std::make_unique<Canonical>(std::move(space), rules, to_count(table_codes, "table_codes"));
}

CodeArray apply(const Canonical& canonical, const py::object& object) {
    CodeArray codes = valid_copy(canonical.space(), object, "codes");
    const CodesOut out = view_out(codes);
    without_gil([&] { canonical.apply(out); });
    return codes;
}

py::array_t<bool> active(const Canonical& canonical, const py::object& object) {
    const CodeArray codes = valid_copy(canonical.space(), object, "codes");
    py::array_t<bool> mask({codes.shape(0), codes.shape(1)});
    bool* out = mask.mutable_data();
    without_gil([&] { canonical.active(view(codes), out); });
    return mask;
}

}  // namespace

void register_canonical(py::module_& module) {
    using namespace pybind11::literals;
    py::class_<Canonical> canonical(
        module, "Canonical",
        "The canonical ones of a space's codes, where conditions (position, parent, allowed digits), cells (edges "
        "(position, from, to), none, skip; -1: there is no such digit) and interchangeable groups (members of as many "
        "positions each) make codes equal. ValueError names the positions of a wrong rule.");
    canonical
        .def(py::init(&make_canonical), py::arg("space").none(false), "conditions"_a = py::tuple(),
             "cells"_a = py::tuple(), "interchangeable"_a = py::tuple(), py::kw_only(),
             "table_codes"_a = default_table_codes)
        .def("apply", &apply, "codes"_a, "The canonical codes (n, L) of codes (n, L); equal codes have the same.")
        .def("active", &active, "codes"_a, "(n, L) bool: False where a position of codes (n, L) does not matter.");
}

}  // namespace ncode::bindings
