# What rust-lb asks of Nomad: services of all namespaces, their events, and the checks of their allocations. All are read.
#
#   nomad acl policy apply -namespace default -job rust-lb rust-lb jobs/rust-lb.policy.hcl
#
# gives it to the workload identity of the job `rust-lb` (its NOMAD_TOKEN). For a rust-lb outside of Nomad, as in a HinD box:
#
#   nomad acl policy apply rust-lb jobs/rust-lb.policy.hcl
#   nomad acl token create -name=rust-lb -policy=rust-lb      # its secret id is NOMAD_TOKEN
namespace "*" {
  capabilities = ["read-job"]
}
