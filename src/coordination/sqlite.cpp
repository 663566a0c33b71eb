#include "coordination/sqlite.hpp"

#include <sqlite3.h>
#include <sys/stat.h>

#include <utility>

namespace croft::coordination {

Result<Database> Database::open(const std::filesystem::path& file) {
  Database made;
  int rc = sqlite3_open_v2(file.c_str(), &made.db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (rc != SQLITE_OK) return fail(made.error("open " + file.string()));
  ::chmod(file.c_str(), 0600);  // its log files take after it
  sqlite3_extended_result_codes(made.db_, 1);
  return made;
}

Database::Database(Database&& other) noexcept : db_(std::exchange(other.db_, nullptr)), statements_(std::move(other.statements_)) {}

Database::~Database() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  if (db_) sqlite3_close(db_);
}

Error Database::error(std::string_view doing) const {
  int rc = db_ ? sqlite3_extended_errcode(db_) : SQLITE_NOMEM;
  auto kind = rc & 0xFF;
  // A full disk passes: a leader waits for room, and whoever asked for a change may ask again.
  auto code = kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB ? Errc::corrupt : kind == SQLITE_FULL ? Errc::unavailable : Errc::io;
  return {code, fmt::format("{}: {}", doing, db_ ? sqlite3_errmsg(db_) : "out of memory")};
}

Result<sqlite3_stmt*> Database::bound(std::string_view sql, Arguments arguments) {
  auto known = statements_.find(sql);
  if (known == statements_.end()) {
    sqlite3_stmt* made = nullptr;
    if (sqlite3_prepare_v2(db_, sql.data(), static_cast<int>(sql.size()), &made, nullptr) != SQLITE_OK) return fail(error(sql));
    known = statements_.emplace(std::string(sql), made).first;
  }
  int index = 1;
  for (const auto& argument : arguments)
    sqlite3_bind_text64(known->second, index++, argument.data(), argument.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  return known->second;
}

Status Database::run(std::string_view sql, Arguments arguments) {
  auto statement = bound(sql, arguments);
  if (!statement) return fail(statement.error());
  int rc;
  while ((rc = sqlite3_step(*statement)) == SQLITE_ROW) {}
  auto failed = rc == SQLITE_DONE ? std::nullopt : std::optional(error(sql.substr(0, 40)));
  sqlite3_reset(*statement);
  if (failed) return fail(std::move(*failed));
  return {};
}

Result<std::optional<std::string>> Database::text(std::string_view sql, Arguments arguments) {
  std::optional<std::string> out;
  auto statement = bound(sql, arguments);
  if (!statement) return fail(statement.error());
  int rc = sqlite3_step(*statement);
  if (rc == SQLITE_ROW) {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(*statement, 0));
    out.emplace(bytes ? bytes : "", static_cast<std::size_t>(sqlite3_column_bytes(*statement, 0)));
  }
  auto failed = rc == SQLITE_ROW || rc == SQLITE_DONE ? std::nullopt : std::optional(error(sql.substr(0, 40)));
  sqlite3_reset(*statement);
  if (failed) return fail(std::move(*failed));
  return out;
}

Status Database::pairs(std::string_view sql, Arguments arguments, const std::function<void(std::string, std::string)>& each) {
  auto statement = bound(sql, arguments);
  if (!statement) return fail(statement.error());
  auto column = [&](int i) {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(*statement, i));
    return std::string(bytes ? bytes : "", static_cast<std::size_t>(sqlite3_column_bytes(*statement, i)));
  };
  int rc;
  while ((rc = sqlite3_step(*statement)) == SQLITE_ROW) each(column(0), column(1));
  auto failed = rc == SQLITE_DONE ? std::nullopt : std::optional(error(sql.substr(0, 40)));
  sqlite3_reset(*statement);
  if (failed) return fail(std::move(*failed));
  return {};
}

Status Database::commit() {
  auto ok = run("COMMIT", {});
  if (ok) return {};
  // A full disk or a lock leaves the transaction open: nothing was written. An input/output error during the sync of the log does
  // not say whether the frames reached the disk.
  int rc = sqlite3_extended_errcode(db_);
  if ((rc & 0xFF) == SQLITE_IOERR) return fail(Errc::unknown_outcome, "store: {}", ok.error().context);
  return ok;
}

void Database::rollback() {
  if (!sqlite3_get_autocommit(db_)) (void)run("ROLLBACK", {});
}

}  // namespace croft::coordination
