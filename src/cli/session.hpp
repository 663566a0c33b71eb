#pragma once
// A blocking client of the farm for the subcommands: one request, one answer, errors as exit codes with words.

#include <boost/json/value.hpp>

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/cli.hpp"
#include "net/http_client.hpp"

namespace croft::cli {

/// Ends a command early with a code and a sentence on stderr.
struct Ended {
  ExitCode code;
  std::string text;
  bool away = false;         ///< no master answered, or none leads: worth another try
};

struct Common {
  std::string url = "http://127.0.0.1:8080";   ///< of a master's Marathon face
  std::string logs_url = "http://127.0.0.1:9200";   ///< of the log host; by default the master's host, as this one's `url` has it
  std::string balancer_url = "http://127.0.0.1:8000";   ///< of a balancer's Bamboo face; likewise
  std::string ca;                              ///< file of the CAs to trust; "": those of the login, of this host's cluster, the system's
  std::string token_file;                      ///< "": CROFT_TOKEN, or the login's
  bool url_given = false, logs_url_given = false, balancer_url_given = false;
  bool json = false, quiet = false;
};

/// What `croft login` keeps, in a file of mode 0600.
struct Login {
  std::string url, logs_url, balancer_url, ca_pem, token;
};
std::filesystem::path login_file();
/// Nothing where there is none. Throws Ended for one that others may read.
std::optional<Login> read_login();

/// Errors   throws Ended; the subcommands are plain top-down programs.
class Session {
 public:
  explicit Session(const Common& common);
  ~Session();

  struct Answer {
    int status;
    std::string body;
    net::Headers headers;
    [[nodiscard]] boost::json::value json() const;   ///< throws Ended when it is none
  };
  Answer call(std::string_view method, const std::string& target, std::string body = {});
  /// As call, and an Ended for every status from 400 on, with the farm's own words.
  Answer must(std::string_view method, const std::string& target, std::string body = {});
  /// The second half of `must`.
  [[nodiscard]] Answer good(Answer answer, const std::string& target) const;
  Answer logs(std::string_view method, const std::string& target, std::string body);
  /// With a password instead of the kept token.
  Answer call_as(const std::string& user, const std::string& password, std::string_view method, const std::string& target, std::string body = {});
  /// With this Authorization instead of what is kept or given.
  Answer call_with(const std::string& authorization, std::string_view method, const std::string& target, std::string body = {});
  /// The CAs that are trusted, as text; "" for the system's.
  [[nodiscard]] const std::string& bundle() const { return bundle_; }
  /// A request to a master as call() makes it, for those who send it themselves.
  struct Prepared {
    net::Origin origin;
    net::Request request;
  };
  Prepared prepare(std::string_view method, const std::string& target, std::string body = {}) const { return prepared(common_.url, method, target, std::move(body)); }
  Answer balancer(std::string_view method, const std::string& target, std::string body = {});
  [[nodiscard]] const Common& common() const { return common_; }

 private:
  /// `setting` names where `base` comes from, for the words of an error.
  Answer send(const std::string& base, std::string_view setting, std::string_view method, const std::string& target, std::string body);
  Prepared prepared(const std::string& base, std::string_view method, const std::string& target, std::string body) const;
  Common common_;
  std::string bundle_, authorization_;
  mutable std::shared_ptr<const net::TlsClient> tls_;   ///< one for all requests: connections are found again by it
  std::optional<Login> kept_;    ///< where the token is from a login: it goes to that farm only
};

/// What a refusal says that a deployment holds the app, in this program's own words instead of the API's; "" when it says something else.
std::string words_of_lock(const Session::Answer& answer);
/// The farm's own words in an error answer: message, then details with their paths.
std::string words_of(const Session::Answer& answer);
/// Rows with columns aligned; the first row is the head.
std::string table(const std::vector<std::vector<std::string>>& rows);
/// One of several columns, whatever stands in it: without controls, and without the runs of blanks that stand between columns.
std::string column(std::string_view text);
/// To stdout, at once; on a terminal without what would steer it, because lines and names are others' words.
/// Throws Ended when stdout takes nothing (a full disk); a reader that went away ends the program as everywhere.
void print(const std::string& text);
/// An app's path as it stands in a URL: "/a b" to "/a%20b".
std::string in_url(std::string_view app);

}  // namespace croft::cli
