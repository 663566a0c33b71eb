// croft_cluster_bench: placements a second on 10,000 agents, 1,000 shapes, batches up to 10, ports, until 80 % full; then the same without the
// index, for the fit. Prints one JSON object.

#include <chrono>
#include <cstdio>
#include <random>

#include "cluster/cluster.hpp"

namespace croft::cluster {
namespace {

constexpr std::size_t agents_count = 10'000, shapes_count = 1'000;
constexpr double full = 0.8;

struct Run {
  double seconds = 0, fill = 0;
  std::size_t placements = 0, to_the_end = 0;
  double leftover = 0;       ///< mean of what stays free on the chosen agent, in parts of an average agent
};

void add_agents(Cluster& cluster, std::mt19937_64& dice) {
  static constexpr Resources sizes[] = {{4'000, 8'000'000, 0, 0}, {8'000, 16'000'000, 0, 0}, {8'000, 32'000'000, 0, 0}, {16'000, 32'000'000, 0, 0}, {32'000, 64'000'000, 0, 0}};
  for (std::size_t n = 0; n < agents_count; ++n) {
    link::Registration r;
    r.info.hostname = fmt::format("host{}", n);
    r.info.ip = fmt::format("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    r.info.total = sizes[dice() % std::size(sizes)];
    r.info.ports = *PortSet::parse("31000-32000");
    if (!cluster.register_agent(r, system_now())) std::abort();
    (void)cluster.take_messages();
  }
  (void)cluster.take_events();
}

std::vector<Shape> make_shapes(std::mt19937_64& dice) {
  std::vector<Shape> shapes(shapes_count);
  for (std::size_t n = 0; n < shapes.size(); ++n) {
    shapes[n].app = AppId(fmt::format("/app{}", n));
    shapes[n].resources = {static_cast<Milli>(50 + dice() % 1950), static_cast<Milli>(64'000 + dice() % 4'000'000), 0, 0};
    shapes[n].host_ports.assign(dice() % 3, 0);
  }
  return shapes;
}

double share_used(const Cluster& c) {
  auto part = [](Milli used, Milli total) { return static_cast<double>(used) / static_cast<double>(total); };
  return std::max(part(c.used().cpus, c.total().cpus), part(c.used().mem, c.total().mem));
}

Run run(bool look_at_all, bool judge_fit) {
  std::mt19937_64 dice(7);
  Options options;
  options.look_at_all = look_at_all;
  Cluster cluster(options);
  add_agents(cluster, dice);
  auto shapes = make_shapes(dice);
  Run out;
  auto agents = static_cast<double>(agents_count);
  auto worth = [&](const Resources& r) { return static_cast<double>(r.cpus) * agents / static_cast<double>(cluster.total().cpus) + static_cast<double>(r.mem) * agents / static_cast<double>(cluster.total().mem); };
  while (share_used(cluster) < full) {
    const auto& shape = shapes[dice() % shapes.size()];
    auto count = static_cast<std::uint32_t>(1 + dice() % 10);
    auto begun = std::chrono::steady_clock::now();
    auto result = cluster.place(shape, count);
    out.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    out.placements += result.placed.size();
    if (judge_fit)
      for (const auto& p : result.placed) {
        const auto* a = cluster.agent(p.agent);
        out.leftover += worth(a->info.total - a->used);
      }
    if (result.placed.size() < count) break;
  }
  out.leftover /= static_cast<double>(std::max<std::size_t>(out.placements, 1));
  out.fill = share_used(cluster);
  if (!judge_fit) return out;
  // On to the end: how many more find room before a hundred shapes in a row do not.
  for (int misses = 0; misses < 100;) {
    auto placed = cluster.place(shapes[dice() % shapes.size()], 1).placed.size();
    out.to_the_end += placed;
    misses = placed ? 0 : misses + 1;
  }
  return out;
}

}  // namespace
}  // namespace croft::cluster

int main() {
  using namespace croft::cluster;
  auto fast = run(false, false);
  auto fit = run(false, true), yardstick = run(true, true);
  std::printf("{\"placements_per_second\":%.0f,\"full_scan_per_second\":%.0f,\"placements\":%zu,\"fill\":%.3f,\"leftover\":%.4f,\"full_scan_leftover\":%.4f,\"until_full\":%zu,\"full_scan_until_full\":%zu}\n",
              static_cast<double>(fast.placements) / fast.seconds, static_cast<double>(yardstick.placements) / yardstick.seconds, fast.placements, fast.fill, fit.leftover, yardstick.leftover,
              fit.placements + fit.to_the_end, yardstick.placements + yardstick.to_the_end);
}
