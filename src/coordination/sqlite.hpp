#pragma once
// The little of SQLite that the store needs: prepared statements kept by their text, errors as values.

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace croft::coordination {

/// One connection. Errors: io (disk full and the like), corrupt, unknown_outcome (from commit only, when the disk did not say).
/// Threads  one at a time.
class Database {
 public:
  static Result<Database> open(const std::filesystem::path& file);
  Database(Database&& other) noexcept;
  Database& operator=(Database&&) = delete;
  ~Database();

  using Arguments = std::initializer_list<std::string>;
  Status run(std::string_view sql, Arguments arguments);
  /// First column of the first row; nothing without a row.
  Result<std::optional<std::string>> text(std::string_view sql, Arguments arguments);
  Status pairs(std::string_view sql, Arguments arguments, const std::function<void(std::string, std::string)>& each);
  Status commit();
  void rollback();

 private:
  Database() = default;
  Result<sqlite3_stmt*> bound(std::string_view sql, Arguments arguments);
  Error error(std::string_view doing) const;

  sqlite3* db_ = nullptr;
  std::map<std::string, sqlite3_stmt*, std::less<>> statements_;
};

}  // namespace croft::coordination
