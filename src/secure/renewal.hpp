#pragma once
// When a certificate is renewed, and how one CA follows another. Decisions only: the caller brings the time and carries out.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "secure/authority.hpp"
#include "secure/certificate.hpp"

namespace croft::secure {

struct RenewalPlan {
  enum class State : std::uint8_t { fresh, due, urgent, expired };
  State state{};
  Wall at{};  ///< when to try (next); not after `now` means at once
};
std::string_view to_string(RenewalPlan::State state);

/// A certificate is due somewhere between a third and a half of its life, spread by its fingerprint, so that hosts installed in one minute do
/// not all ask in one minute; urgent, a matter for an alarm, in the last sixth. After `failures` vain tries the next waits 1 min, doubling up to
/// an hour. An expired one is still tried: a master may take it with a join token only, and the reason then stands in the log.
/// `superseded`: since when another CA than its own signs; then it is due `within` that time, spread likewise.
RenewalPlan plan_renewal(const Certificate& certificate, Wall now, std::uint32_t failures = 0, Wall last_try = Wall{}, std::optional<Wall> superseded = {},
                         Wall::duration within = std::chrono::hours(1));
/// Whether this very CA signed it, and it is in time.
bool signed_by(std::string_view certificate_pem, std::string_view authority_pem, Wall now);

/// The CAs of a cluster through time. Masters keep it; everybody else has its bundle.
///
/// Rotation overlaps: (1) a new CA is made and announced in the bundle while the old one goes on signing, so that every host knows it before it
/// meets it; (2) the new one signs; (3) the old one leaves the bundle when the last certificate that it signed has ended.
struct Trust {
  struct Generation {
    Authority authority;       ///< key empty once it signs no more
    Wall made{}, signs_from{}; ///< known to all hosts from the one, signing from the other on
    Wall signs_until{};        ///< Wall::max() while it may sign
    Wall last_end{};           ///< latest end of what it signed, kept by note_issued
  };
  std::string cluster;
  std::vector<Generation> generations;  ///< oldest first; one or two, more only while older ones run out
  std::size_t signing = 0;

  [[nodiscard]] const Authority& authority() const { return generations[signing].authority; }
  [[nodiscard]] std::string bundle() const;        ///< PEM of every generation
  [[nodiscard]] bool rotating() const { return signing + 1 < generations.size(); }
};

struct TrustOptions {
  Wall::duration announce = std::chrono::hours{24 * 7};  ///< how long a new CA is known before it signs
  Wall::duration life = authority_life;
};

Result<Trust> create_trust(std::string_view cluster, Wall now, TrustOptions options = {});
inline constexpr std::size_t generations_max = 8;   ///< each stays until its last certificate has ended
/// One that is announced already signs earlier, when this asks for that.
/// Errors   conflict: one is announced that signs no later; there are generations_max.
Status begin_rotation(Trust& trust, Wall now, TrustOptions options = {});
/// What time alone brings about; true when something changed and must be stored and told. It begins a rotation by itself when the signing CA is
/// in the last quarter of its life.
bool advance(Trust& trust, Wall now, TrustOptions options = {});
/// Remembers that the signing CA answers for a certificate until then.
void note_issued(Trust& trust, Wall not_after);

/// Errors   corrupt, invalid (a newer format).
std::string encode_trust(const Trust& trust);
Result<Trust> decode_trust(std::string_view json);

}  // namespace croft::secure
