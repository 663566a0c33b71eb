#pragma once
// The farm with several masters: election, detector and store on one ZooKeeper session.

#include "coordination/store.hpp"
#include "coordination/zookeeper_session.hpp"

namespace croft::coordination {

/// Candidates are ephemeral sequential nodes directly below the address's path, in Mesos's form; the lowest leads. A candidate keeps its
/// node over a lost connection and finds it again by its owner. `lost` completes when the session is over or could be by our own clock,
/// when the node is gone, or when somebody else raised the store's epoch.
/// Source: Mesos's leader election (MasterInfo in json.info_…).
Result<std::unique_ptr<Election>> zookeeper_election(std::shared_ptr<ZookeeperSession> session, Leader advertised);

/// Reads the same nodes; needs neither credentials nor a place among the candidates. Ends with the object.
std::shared_ptr<Detector> zookeeper_detector(std::shared_ptr<ZookeeperSession> session);

/// The store below `root` ("/croft"), which must not be inside the election's path. Records: zookeeper_records.hpp.
/// Errors: invalid (the path).
Result<std::unique_ptr<Store>> zookeeper_store(std::shared_ptr<ZookeeperSession> session, std::string root = "/croft");

}  // namespace croft::coordination
