#include "orchestrator/app.hpp"

namespace croft::orchestrator {

bool App::same_config(const App& other) const {
  App copy = other;
  copy.instances = instances;
  copy.version = version;
  copy.last_scaling = last_scaling;
  copy.last_config_change = last_config_change;
  return copy == *this;
}

}  // namespace croft::orchestrator
