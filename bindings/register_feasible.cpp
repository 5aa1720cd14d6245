#include <memory>
#include <string>

#include "feasible.hpp"
#include "condition_rules.hpp"
#include "items.hpp"
#include "register.hpp"
#include "space_calls.hpp"

namespace ncode::bindings {
namespace {

std::vector<std::vector<long long>> to_rows(const py::object& objects, const char* name) {
    std::vector<std::vector<long long>> rows;
    for (const auto row : py::iter(objects)) {
        rows.push_back(to_numbers(py::reinterpret_borrow<py::object>(row), name));
    }
    return rows;
}

std::optional<long long> to_bound(const py::object& object) {
    return object.is_none() ? std::nullopt : std::optional(to_number(object, "bound"));
}

CostRule to_cost(const py::handle& object) {
    const py::tuple items = items_of(object, 4, "a cost");
    CostRule rule{to_rows(items[0], "cost"), {}, to_bound(items[2]), to_bound(items[3])};
    for (const auto pair : py::iter(items[1])) {
        const py::tuple parts = items_of(pair, 2, "a pair");
        rule.pairs.push_back({to_number(parts[0], "position"), to_rows(parts[1], "cost")});
    }
    return rule;
}

std::vector<CostRule> to_costs(const py::object& objects) {
    std::vector<CostRule> rules;
    for (const auto object : py::iter(objects)) {
        rules.push_back(to_cost(object));
    }
    return rules;
}

std::vector<ForbiddenRule> to_forbidden(const py::object& objects) {
    std::vector<ForbiddenRule> rules;
    for (const auto object : py::iter(objects)) {
        rules.emplace_back();
        for (const auto part : py::iter(object)) {
            const py::tuple items = items_of(part, 2, "a part");
            rules.back().parts.push_back({to_number(items[0], "position"), to_numbers(items[1], "option")});
        }
    }
    return rules;
}

std::unique_ptr<Feasible> make_feasible(std::shared_ptr<Space> space, const py::object& costs,
                                        const py::object& forbidden, const py::object& conditions, bool canonical,
                                        const py::object& max_states) {
    const ConstraintRules rules{to_costs(costs), to_forbidden(forbidden), to_conditions(conditions), canonical};
    const std::size_t limit = std::min(to_count(max_states, "max_states"), std::size_t{dead});
    const WithoutGil released;
    return std::make_unique<Feasible>(std::move(space), rules, limit);
}

py::object conflict_of(const Feasible& feasible) {
    const auto& conflict = feasible.conflict();
    if (!conflict) {
        return py::none();
    }
    const auto& possible = conflict->possible;
    return py::make_tuple(conflict->constraint,
                          possible ? py::object(py::make_tuple(possible->least, possible->most)) : py::none());
}

void require_some(const Feasible& feasible) {
    if (feasible.empty()) {
        throw py::value_error("no code is feasible");
    }
}

py::int_ count_of(const Feasible& feasible) {
    if (feasible.has_places()) {
        return to_python(feasible.size());
    }
    py::int_ size(0);
    const auto& words = feasible.exact_size();
    for (std::size_t i = words.size(); i-- > 0;) {
        size = py::int_((size << py::int_(64)) | to_python(words[i]));
    }
    return size;
}

py::list ranges_of(const Feasible& feasible) {
    require_some(feasible);
    py::list result;
    for (const Range& range : feasible.ranges()) {
        result.append(py::make_tuple(range.least, range.most));
    }
    return result;
}

py::array_t<Amount> costs_of(const Feasible& feasible, const py::object& object) {
    const CodeArray codes = valid_copy(feasible.space(), object, "codes");
    py::array_t<Amount> sums({codes.shape(0), static_cast<py::ssize_t>(feasible.cost_count())});
    Amount* out = sums.mutable_data();
    without_gil([&] { feasible.costs(view(codes), out); });
    return sums;
}

py::array_t<bool> contains(const Feasible& feasible, const py::object& object) {
    const CodeArray codes = valid_copy(feasible.space(), object, "codes");
    auto mask = empty_mask(view(codes).rows);
    bool* out = mask.mutable_data();
    without_gil([&] { feasible.contains(view(codes), out); });
    return mask;
}

py::list rank_of(const Feasible& feasible, const py::object& object) {
    feasible.size();
    const CodeArray codes = valid_copy(feasible.space(), object, "codes");
    std::vector<uint128> indices(view(codes).rows);
    without_gil([&] { feasible.rank(view(codes), indices.data()); });
    return indices_to_python(indices);
}

CodeArray unrank(const Feasible& feasible, const py::object& objects) {
    require_some(feasible);
    const auto indices = to_indices(objects, feasible.size() - 1);
    auto codes = empty_codes(indices.size(), feasible.space().length());
    const CodesOut out = view_out(codes);
    without_gil([&] {
        for (std::size_t i = 0; i < indices.size(); ++i) {
            feasible.unrank(indices[i], out.row(i));
        }
    });
    return codes;
}

// How many of `count` feasible codes from `start` exist; `start` is set if any does.
std::size_t rows_of(const Feasible& feasible, const py::object& start_object, const py::object& count_object,
                    uint128& start) {
    const std::size_t count = to_count(count_object, "count");
    const auto number = to_uint128(start_object, "start");
    if (!number || *number >= feasible.size()) {
        return 0;
    }
    start = *number;
    return static_cast<std::size_t>(std::min<uint128>(count, feasible.size() - start));
}

CodeArray enumerate_feasible(const Feasible& feasible, const py::object& start, const py::object& count) {
    uint128 first = 0;
    auto codes = empty_codes(rows_of(feasible, start, count, first), feasible.space().length());
    const CodesOut out = view_out(codes);
    without_gil([&] { feasible.enumerate(first, out); });
    return codes;
}

CodeArray sample_feasible(const Feasible& feasible, const py::object& count, const py::object& seed,
                          const py::object& start) {
    uint128 first = 0;
    const auto number = to_seed(seed);
    auto codes = empty_codes(rows_of(feasible, start, count, first), feasible.space().length());
    const CodesOut out = view_out(codes);
    without_gil([&] { feasible.sample(number, first, out); });
    return codes;
}

CodeArray random_feasible(const Feasible& feasible, const py::object& count, const py::object& seed) {
    const auto number = to_seed(seed);
    require_some(feasible);
    auto codes = empty_codes(to_count(count, "count"), feasible.space().length());
    const CodesOut out = view_out(codes);
    without_gil([&] { feasible.random(number, out); });
    return codes;
}

CodeArray mutate_feasible(const Feasible& feasible, const py::object& parents, const py::object& seed,
                          const py::object& changes) {
    const auto number = to_seed(seed);
    const auto amount = to_count(changes, "changes");
    require_some(feasible);
    auto codes = valid_copy(feasible.space(), parents, "parents");
    const CodesOut out = view_out(codes);
    without_gil([&] { feasible.mutate(number, amount, out); });
    return codes;
}

CodeArray cross_feasible(const Feasible& feasible, const py::object& first, const py::object& second,
                         const py::object& seed) {
    const auto number = to_seed(seed);
    require_some(feasible);
    const auto one = valid_copy(feasible.space(), first, "first");
    const auto other = valid_copy(feasible.space(), second, "second");
    require_same_rows(one, other);
    auto result = empty_codes(view(one).rows, view(one).length);
    const CodesOut out = view_out(result);
    without_gil([&] { feasible.crossover(view(one), view(other), number, out); });
    return result;
}

using FeasibleClass = py::class_<Feasible>;

void register_codes(FeasibleClass& feasible) {
    using namespace pybind11::literals;
    feasible
        .def("cost", &costs_of, "codes"_a, "The costs (n, costs) int64 of codes (n, L), feasible or not.")
        .def("contains", &contains, "codes"_a, "Which of codes (n, L) are feasible: (n,) bool.")
        .def("to_index", &rank_of, "codes"_a,
             "The places of codes (n, L) among the feasible ones; ValueError names the first that is not feasible.")
        .def("from_index", &unrank, "indices"_a, "The feasible codes (n, L) at these places.");
}

void register_draws(FeasibleClass& feasible) {
    using namespace pybind11::literals;
    feasible
        .def("enumerate", &enumerate_feasible, "start"_a, "count"_a,
             "Up to count feasible codes (n, L) from place start on, in the order of the space's indices.")
        .def("sample", &sample_feasible, "count"_a, "seed"_a, "start"_a = 0,
             "Elements start to start + count of a pseudo-random permutation of the feasible codes: (n, L), distinct.")
        .def("random", &random_feasible, "count"_a, "seed"_a,
             "Uniform feasible codes (count, L), drawn with replacement.")
        .def("mutate", &mutate_feasible, "parents"_a, "seed"_a, "changes"_a = 1,
             "Feasible copies (n, L) of parents with `changes` positions changed; with more, or none, where eight tries "
             "give no feasible code: then the last is repaired from the first position on, with uniform digits.")
        .def("crossover", &cross_feasible, "first"_a, "second"_a, "seed"_a,
             "Feasible codes (n, L): digits from the row of first or of second, with equal chances; repaired as above.");
}

}  // namespace

void register_feasible(py::module_& module) {
    using namespace pybind11::literals;
    FeasibleClass feasible(
        module, "Feasible",
        "The codes within bounds on additive costs (costs of options (L, options), pairs (position, costs (options, "
        "options of the next position)), least, most; None: no bound) that match no forbidden combination of (position, "
        "options). By conditions (position, parent, allowed digits), positions that do not matter cost nothing and match "
        "nothing; canonical: only codes with digit 0 there. ValueError names the positions of a wrong rule, and the constraint, costs first, that needs more "
        "than max_states. 2**128 codes or more have no places: OverflowError for those, and for `enumerate` and `sample`.");
    feasible
        .def(py::init(&make_feasible), py::arg("space").none(false), "costs"_a = py::tuple(),
             "forbidden"_a = py::tuple(), "conditions"_a = py::tuple(), py::kw_only(), "canonical"_a = false,
             "max_states"_a = default_states)
        .def_property_readonly("size", count_of,
                               "Number of feasible codes, exact.")
        .def_property_readonly("states", &Feasible::states, "Nodes of the diagram that holds them.")
        .def_property_readonly("conflict", &conflict_of,
                               "None, or where no code is feasible: the constraint with which none was left, and, for a "
                               "cost, what it is between in what the others leave.")
        .def_property_readonly("ranges", &ranges_of, "The smallest and the largest of every cost, of feasible codes.");
    register_codes(feasible);
    register_draws(feasible);
}

}  // namespace ncode::bindings
