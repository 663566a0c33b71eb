#include "coordination/sealed.hpp"

#include "secure/bytes.hpp"

namespace croft::coordination {

namespace {

/// Text, because stores and backups are made for text.
constexpr std::string_view mark = "sealed-1:";

class SealedStore final : public Store {
 public:
  SealedStore(std::unique_ptr<Store> store, std::shared_ptr<const secure::KeyRing> ring) : store_(std::move(store)), ring_(std::move(ring)) {}

  asio::awaitable<Result<Term>> take_over() override { return store_->take_over(); }
  asio::awaitable<Result<std::uint64_t>> read_head() override { return store_->read_head(); }
  asio::awaitable<Result<Snapshot>> save() override { return store_->save(); }
  using Store::restore;
  asio::awaitable<Result<Term>> restore(Snapshot snapshot, Over over) override { return store_->restore(std::move(snapshot), over); }
  asio::awaitable<Result<Term>> accept(Term at_least) override { return store_->accept(std::move(at_least)); }

  asio::awaitable<Result<std::uint64_t>> commit(Batch batch) override {
    for (auto& [key, value] : batch.put) value = std::string(mark) + secure::base64url_encode(ring_->seal(key, value));
    return store_->commit(std::move(batch));
  }
  asio::awaitable<Result<std::map<std::string, std::string>>> load(std::string prefix) override {
    auto values = co_await store_->load(std::move(prefix));
    if (!values) co_return values;
    for (auto& [key, value] : *values) {
      if (!value.starts_with(mark)) continue;
      auto sealed = secure::base64url_decode(std::string_view(value).substr(mark.size()));
      auto opened = sealed ? ring_->open(key, *sealed) : fail(Errc::corrupt, "not readable");
      if (!opened) co_return fail(std::move(opened).error().within(key));
      value = std::move(*opened);
    }
    co_return values;
  }

 private:
  std::unique_ptr<Store> store_;
  std::shared_ptr<const secure::KeyRing> ring_;
};

}  // namespace

std::unique_ptr<Store> sealed_store(std::unique_ptr<Store> store, std::shared_ptr<const secure::KeyRing> ring) { return std::make_unique<SealedStore>(std::move(store), std::move(ring)); }

}  // namespace croft::coordination
