#pragma once
// People and scripts: who there is and what they were given, and which hosts are taken no longer. Records of the store, and one immutable view of them for readers.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/time.hpp"
#include "secure/certificate.hpp"
#include "secure/identity.hpp"

namespace croft::secure {

/// Each may do what the ones before it may.
enum class Level : std::uint8_t { viewer, operator_, admin };
std::string_view to_string(Level level);  ///< "viewer", "operator", "admin"
std::optional<Level> level_of(std::string_view text);

/// A level on a group and everything below it; "/" is the whole farm.
struct Grant {
  Level level{};
  std::string group;
  auto operator<=>(const Grant&) const = default;
};
/// "operator:/service", or "admin" alone for the whole farm. Errors: invalid.
Result<Grant> parse_grant(std::string_view text);
std::string to_string(const Grant& grant);

struct User {
  std::string name;
  std::string password;       ///< record of password.hpp
  std::vector<Grant> grants;  ///< none: may log in and see nothing
  Wall created{};
  std::string created_by;
};

struct Token {
  std::string id;             ///< 16 hex digits
  std::string digest;         ///< of the whole text
  std::string label;          ///< what it is for
  std::vector<Grant> grants;
  Wall created{}, expires = Wall::max();
  std::string created_by;
};

inline constexpr std::size_t grants_max = 64, accounts_max = 10'000, label_bytes_max = 128;

/// 1 to 64 letters, digits, '.', '_', '-' and '@': no colon, at which Basic divides. Errors: invalid.
Status check_user_name(std::string_view name);
Status check_label(std::string_view label);

/// Keys in the store: "users/NAME" and "tokens/ID".
inline constexpr std::string_view users_prefix = "users/", tokens_prefix = "tokens/";
std::string encode_user(const User& user);
std::string encode_token(const Token& token);
/// Errors   corrupt, invalid (a newer format; say so before anything is written).
Result<User> decode_user(std::string_view json);
Result<Token> decode_token(std::string_view json);

/// A host that was put out: its certificates up to a moment are void, wherever they are. One that it gets later, by joining anew, is not.
struct Revocation {
  std::string host;
  Wall before{};              ///< whole seconds, as certificates have them
  std::string by;
};
inline constexpr std::string_view revoked_prefix = "revoked/";  ///< "revoked/HOST"
std::string encode_revocation(const Revocation& revocation);
Result<Revocation> decode_revocation(std::string_view json);  ///< Errors: corrupt, invalid (a newer format).

/// Who asks.
struct Principal {
  enum class Kind : std::uint8_t { anonymous, user, token, host };
  Kind kind = Kind::anonymous;
  std::string name;                  ///< user's name, token's id, host's name
  std::vector<Grant> grants;         ///< of users and tokens
  std::optional<HostIdentity> host;  ///< of hosts
  std::string label;                 ///< of tokens
  [[nodiscard]] std::string str() const;  ///< "user ann", "token 00ff… (ci)", for the audit log
};
/// Whose budget it is, in words like str()'s: a user's tokens of `croft login` are the user, so that making another one makes no other budget.
std::string account_of(std::string_view who);
Principal principal_of(const User& user);
Principal principal_of(const Token& token);
Principal principal_of(const HostIdentity& host);

/// Everybody, at one commit.
class Accounts {
 public:
  /// From the store's records; key and name in the record must agree. Errors: corrupt, invalid, too_large, naming the key.
  static Result<std::shared_ptr<const Accounts>> load(const std::map<std::string, std::string>& users, const std::map<std::string, std::string>& tokens,
                                                      const std::map<std::string, std::string>& revoked = {});

  [[nodiscard]] const User* user(std::string_view name) const;
  [[nodiscard]] const Token* token(std::string_view id) const;
  [[nodiscard]] const std::map<std::string, User, std::less<>>& users() const { return users_; }
  [[nodiscard]] const std::map<std::string, Token, std::less<>>& tokens() const { return tokens_; }
  /// Whether somebody would still be admin of the whole farm at `now` without this user or token: the last one is not removed by mistake.
  [[nodiscard]] bool admin_without(std::string_view user, std::string_view token, Wall now) const;

  /// The same with one account put or removed.
  [[nodiscard]] std::shared_ptr<const Accounts> with(User user) const;
  [[nodiscard]] std::shared_ptr<const Accounts> with(Token token) const;
  [[nodiscard]] std::shared_ptr<const Accounts> without_user(std::string_view name) const;
  [[nodiscard]] std::shared_ptr<const Accounts> without_token(std::string_view id) const;

  [[nodiscard]] const std::map<std::string, Revocation, std::less<>>& revocations() const { return revoked_; }
  /// Whether a certificate is void: its host was put out after it was issued.
  [[nodiscard]] bool revoked(const Certificate& certificate) const;

  /// The same one with the rights of now; nothing: his login is over. Hosts and nobody stay as they are.
  [[nodiscard]] std::optional<Principal> present(const Principal& who, Wall now) const;
  /// A bearer token's principal. Quick; needs no queue. Errors: forbidden, with one sentence for unknown and wrong alike; expired says so.
  [[nodiscard]] Result<Principal> bearer(std::string_view text, Wall now) const;

 private:
  std::map<std::string, User, std::less<>> users_;
  std::map<std::string, Token, std::less<>> tokens_;
  std::map<std::string, Revocation, std::less<>> revoked_;
};

}  // namespace croft::secure
