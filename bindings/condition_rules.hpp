// Conditions, as several classes take them.
#pragma once

#include <vector>

#include "conditions.hpp"
#include "items.hpp"

namespace ncode::bindings {

inline std::vector<ConditionRule> to_conditions(const py::object& objects) {
    std::vector<ConditionRule> rules;
    for (const auto object : py::iter(objects)) {
        const py::tuple items = items_of(object, 3, "a condition");
        rules.push_back({to_number(items[0], "position"), to_number(items[1], "position"),
                         to_numbers(items[2], "option")});
    }
    return rules;
}

}  // namespace ncode::bindings
