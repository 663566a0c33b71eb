#include "secure/renewal.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/json_writer.hpp"
#include "base/text.hpp"
#include "secure/bytes.hpp"

namespace croft::secure {

namespace {

constexpr std::int64_t trust_format = 1;
constexpr auto first_retry = std::chrono::minutes(1), last_retry = std::chrono::minutes(60);

/// 0 up to 1 and the same for the same certificate, whoever asks.
double spread(const std::string& fingerprint) {
  auto digest = sha256("renewal " + fingerprint);
  unsigned value = static_cast<unsigned char>(digest[0]) << 16 | static_cast<unsigned char>(digest[1]) << 8 | static_cast<unsigned char>(digest[2]);
  return value / double(1 << 24);
}

Wall::duration part(Wall::duration whole, double of) { return Wall::duration(static_cast<std::int64_t>(static_cast<double>(whole.count()) * of)); }

}  // namespace

std::string_view to_string(RenewalPlan::State state) {
  switch (state) {
    case RenewalPlan::State::fresh: return "fresh";
    case RenewalPlan::State::due: return "due";
    case RenewalPlan::State::urgent: return "urgent";
    case RenewalPlan::State::expired: return "expired";
  }
  return "?";
}

bool signed_by(std::string_view certificate_pem, std::string_view authority_pem, Wall now) { return verify_certificate(certificate_pem, authority_pem, now, Use::server).has_value(); }

RenewalPlan plan_renewal(const Certificate& certificate, Wall now, std::uint32_t failures, Wall last_try, std::optional<Wall> superseded, Wall::duration within) {
  using State = RenewalPlan::State;
  auto life = std::max(certificate.not_after - certificate.not_before, Wall::duration(0));
  auto due = certificate.not_before + part(life, 1.0 / 3 + spread(certificate.fingerprint) / 6);
  if (superseded) due = std::min(due, *superseded + part(within, spread(certificate.fingerprint)));
  if (now < due) return {State::fresh, due};
  auto state = now >= certificate.not_after ? State::expired : now >= certificate.not_after - life / 6 ? State::urgent : State::due;
  if (failures == 0) return {state, due};
  auto wait = std::min<Wall::duration>(last_retry, first_retry * (1 << std::min(failures - 1, 10u)));
  // A clock that was set back must not postpone the next try for ever.
  if (last_try > now) return {state, now};
  return {state, std::max(due, last_try + wait + part(wait, spread(certificate.fingerprint) / 4))};
}

std::string Trust::bundle() const {
  std::string out;
  for (const auto& g : generations) out += g.authority.certificate_pem;
  return out;
}

Result<Trust> create_trust(std::string_view cluster, Wall now, TrustOptions options) {
  auto authority = create_authority(cluster, now, options.life);
  if (!authority) return fail(std::move(authority).error());
  Trust out;
  out.cluster = cluster;
  out.generations.push_back({std::move(*authority), now, now, Wall::max(), now});
  return out;
}

Status begin_rotation(Trust& trust, Wall now, TrustOptions options) {
  if (trust.rotating()) {
    auto& next = trust.generations[trust.signing + 1];
    if (now + options.announce >= next.signs_from) return fail(Errc::conflict, "a new CA is announced already, and signs from {} on", to_iso8601(next.signs_from));
    next.signs_from = now + options.announce;
    return {};
  }
  if (trust.generations.size() >= generations_max)
    return fail(Errc::conflict, "there are {} CAs already: the oldest is trusted until its last certificate has ended, at {}", trust.generations.size(), to_iso8601(trust.generations.front().last_end));
  auto authority = create_authority(trust.cluster, now, options.life);
  if (!authority) return fail(std::move(authority).error());
  trust.generations.push_back({std::move(*authority), now, now + options.announce, Wall::max(), now});
  return {};
}

bool advance(Trust& trust, Wall now, TrustOptions options) {
  bool changed = false;
  auto anchor = read_bundle(trust.authority().certificate_pem);
  CROFT_ASSERT(anchor && !anchor->empty());
  auto end = anchor->front().not_after, from = anchor->front().not_before;
  if (!trust.rotating() && now >= end - (end - from) / 4) changed = begin_rotation(trust, now, options).has_value();
  // Whoever did not hear of the new one in time has a harder life than everybody would have with a CA that has ended.
  if (trust.rotating() && (now >= trust.generations[trust.signing + 1].signs_from || now >= end)) {
    auto& old = trust.generations[trust.signing];
    old.signs_until = now;
    wipe(old.authority.key_pem);
    ++trust.signing;
    changed = true;
  }
  for (std::size_t i = 0; i < trust.signing;) {
    if (now <= trust.generations[i].last_end) {
      ++i;
      continue;
    }
    trust.generations.erase(trust.generations.begin() + static_cast<std::ptrdiff_t>(i));
    --trust.signing;
    changed = true;
  }
  return changed;
}

void note_issued(Trust& trust, Wall not_after) {
  auto& last = trust.generations[trust.signing].last_end;
  last = std::max(last, not_after);
}

std::string encode_trust(const Trust& trust) {
  JsonWriter w;
  w.begin_object().field("format", trust_format).field("cluster", trust.cluster).field("signing", trust.signing).key("generations").begin_array();
  for (const auto& g : trust.generations) {
    w.begin_object().field("certificate", g.authority.certificate_pem).field("key", g.authority.key_pem).field("made", to_iso8601(g.made)).field("signs_from", to_iso8601(g.signs_from)).field("last_end", to_iso8601(g.last_end));
    if (g.signs_until != Wall::max()) w.field("signs_until", to_iso8601(g.signs_until));
    w.end_object();
  }
  w.end_array().end_object();
  return std::move(w).take();
}

Result<Trust> decode_trust(std::string_view text) {
  if (text.size() > 1u << 20) return fail(Errc::too_large, "CA: record of {} bytes", text.size());
  auto doc = json::parse(text);
  if (!doc) return fail(Errc::corrupt, "CA: {}", doc.error().context);
  if (auto format = json::integer(*doc, "format"); format != trust_format) return fail(format > trust_format ? Errc::invalid : Errc::corrupt, "CA: format {} is not known here", format);
  Trust out;
  out.cluster = json::text(*doc, "cluster");
  for (const auto& g : json::list(*doc, "generations")) {
    auto made = from_iso8601(json::text(g, "made")), last_end = from_iso8601(json::text(g, "last_end"));
    auto until = json::find(g, "signs_until") ? from_iso8601(json::text(g, "signs_until")) : std::optional(Wall::max());
    auto from = json::find(g, "signs_from") ? from_iso8601(json::text(g, "signs_from")) : made ? std::optional(*made + TrustOptions().announce) : made;  // earlier builds had one time for all
    if (!made || !last_end || !until || !from) return fail(Errc::corrupt, "CA: a date");
    out.generations.push_back({{json::text(g, "certificate"), json::text(g, "key")}, *made, *from, *until, *last_end});
  }
  auto signing = json::integer(*doc, "signing", -1);
  if (signing < 0 || static_cast<std::size_t>(signing) >= out.generations.size()) return fail(Errc::corrupt, "CA: signing");
  out.signing = static_cast<std::size_t>(signing);
  if (auto ok = read_bundle(out.bundle()); !ok) return fail(Errc::corrupt, "CA: {}", ok.error().context);
  for (std::size_t i = out.signing; i < out.generations.size(); ++i)
    if (auto ok = check_authority(out.generations[i].authority); !ok) return fail(Errc::corrupt, "CA: {}", ok.error().context);
  return out;
}

}  // namespace croft::secure
