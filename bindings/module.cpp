#include <pybind11/pybind11.h>

#include <string>

#include "alphabet.hpp"
#include "register.hpp"
#include "space.hpp"

namespace {

// For reports: what built the module, and how.
std::string build_description() {
#if defined(__clang__)
    std::string text = "Clang " __clang_version__;
#elif defined(__GNUC__)
    std::string text = "GCC " __VERSION__;
#else
    std::string text = "unknown compiler";
#endif
    return text + ", " NCODE_BUILD_FLAGS;
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    using namespace ncode;
    pybind11::options options;
    options.disable_function_signatures();  // _core.pyi has them, with the arrays' types

    module.doc() = "Spaces, codes and sets of codes in C++: batches of codes are NumPy arrays (n, L) of uint8.";
    module.attr("MAX_OPTIONS") = max_options;
    module.attr("MAX_POSITIONS") = max_positions;
    module.attr("ALPHABET") = std::string(alphabet);
    module.attr("BUILD") = build_description();
    bindings::register_hash(module);
    bindings::register_space(module);
    bindings::register_subspace(module);
    bindings::register_code_set(module);
    bindings::register_canonical(module);
    bindings::register_feasible(module);
}
