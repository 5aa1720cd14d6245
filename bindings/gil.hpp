// Work without the GIL, also in threads that outlive the interpreter.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

namespace ncode::bindings {

// Gives the GIL away as long as it lives.
//
// A daemon thread that asks for it while the interpreter ends is ended by Python before 3.14 with pthread_exit, which
// unwinds the stack as an exception does. That must not leave a destructor (pybind11's own guard ends the whole process
// there), so such a thread stands still until the process is gone, as Python has it do from 3.14 on.
class WithoutGil {
  public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

    ~WithoutGil() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) {
                std::this_thread::sleep_for(std::chrono::hours(1));
            }
        }
    }

  private:
    PyThreadState* state_;
};

// Runs `work` without the GIL. It must not touch Python objects.
template <class Work>
void without_gil(Work work) {
    const WithoutGil released;
    work();
}

}  // namespace ncode::bindings
