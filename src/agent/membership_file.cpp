#include "agent/membership_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <tuple>

#include "base/json.hpp"
#include "base/json_writer.hpp"

namespace croft::agent {

namespace {

constexpr std::size_t spare_size = 4096;  // one page: written over at once

std::string encode(const Membership& m) {
  JsonWriter w;
  w.begin_object().field("format", 1).field("id", m.id).field("cluster_id", m.cluster_id).field("epoch", m.epoch).field("commit", m.commit).field("lives", m.lives).end_object();
  return std::move(w).take();
}

Result<Membership> read(const fs::path& file) {
  auto text = read_file(file, 64u << 10);
  if (!text) return fail(std::move(text).error());
  auto parsed = json::parse(*text);
  if (!parsed) return fail(Error(parsed.error()).within(file.string()));
  return Membership{AgentId(json::text(*parsed, "id")), json::text(*parsed, "cluster_id"), static_cast<std::uint64_t>(json::integer(*parsed, "epoch")),
                    static_cast<std::uint64_t>(json::integer(*parsed, "commit")), static_cast<std::uint64_t>(json::integer(*parsed, "lives"))};
}

auto age(const Membership& m) { return std::tuple(m.lives, m.epoch, m.commit); }

}  // namespace

Result<Membership> MembershipFile::load() {
  auto first = read(file_), second = read(spare_);
  // A spare that was never needed is blank, and one that a crash tore is no JSON: it does not count.
  if (!second) return first;
  spare_used_ = true;
  return first && age(*first) >= age(*second) ? first : second;
}

Status MembershipFile::save(const Membership& m) {
  auto text = encode(m);
  auto ok = write_file_atomic(file_, text, 0600);
  if (ok) {
    std::error_code ec;
    if (fs::file_size(spare_, ec) != spare_size) (void)write_file_atomic(spare_, std::string(spare_size, ' '), 0600);
    else if (std::exchange(spare_used_, false)) (void)save_in_place("");  // who takes agent.json away means all of it
    return ok;
  }
  if (!save_in_place(text)) return ok;
  spare_used_ = true;
  return {};
}

Status MembershipFile::save_in_place(std::string_view text) const {
  Fd fd(::open(spare_.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid() || text.size() >= spare_size || ::lseek(fd.get(), 0, SEEK_END) != spare_size) return fail(Errc::not_found, "{}: has no room", spare_.string());
  std::string page(text);
  page.resize(spare_size, ' ');
  if (::pwrite(fd.get(), page.data(), page.size(), 0) != static_cast<ssize_t>(page.size()) || ::fdatasync(fd.get()) != 0) return fail(Errc::io, "{}: {}", spare_.string(), ::strerror(errno));
  return {};
}

}  // namespace croft::agent
