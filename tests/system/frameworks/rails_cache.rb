# Rails' cache store for Redis: fetch with a block, many keys, counters, deadlines, deletes by pattern.

require "json"
require "active_support"
require "active_support/cache/redis_cache_store"
require "active_support/notifications"

PORTS = ARGV.first(2).map(&:to_i)
$node = 0
$checks = [0, 0]

def equal(what, got, wanted)
  raise "#{what}: #{got.inspect} instead of #{wanted.inspect}" unless got == wanted
  $checks[$node] += 1
end

def redis(node = $node)
  Redis.new(host: "127.0.0.1", port: PORTS[node], db: 13, timeout: 60)
end

def store(**options)
  # Without this the store hides errors of the server.
  raising = ->(method:, returning:, exception:) { raise exception }
  ActiveSupport::Cache::RedisCacheStore.new(
    url: "redis://127.0.0.1:#{PORTS[$node]}/13", namespace: "app", expires_in: 600,
    read_timeout: 60, write_timeout: 60, error_handler: raising, **options
  )
end

def in_threads(count, &work)
  Array.new(count) { |number| Thread.new(number, &work) }.map(&:value)
end

cache = store
executed = []
compute = ->(name) { cache.fetch(name) { executed << name; { "page" => name } } }
equal("fetch", 3.times.map { compute.("a") }, [{ "page" => "a" }] * 3)
equal("the block is executed once", executed, ["a"])
cache.write_multi((0...50).to_h { |n| ["k#{n}", n] })
equal("read_multi", cache.read_multi("k0", "k49", "none"), { "k0" => 0, "k49" => 49 })
equal("fetch_multi", cache.fetch_multi("k1", "new") { |name| "made #{name}" }, { "k1" => 1, "new" => "made new" })
equal("delete", [cache.delete("k1"), cache.read("k1")], [1, nil])
equal("delete_multi", cache.delete_multi(%w[k2 k3 none]), 2)
equal("exist?", [cache.exist?("k3"), cache.exist?("k4")], [false, true])
equal("unless_exist wins once", in_threads(8) { |n| store.write("once", n, unless_exist: true) }.count(true), 1)
in_threads(8) { mine = store; 25.times { mine.increment("hits", 1, expires_in: 300) } }
equal("increment by 8 threads", cache.increment("hits"), 201)
equal("its deadline", redis.ttl("app:hits").between?(290, 300), true)
equal("decrement", cache.decrement("hits", 101), 100)
equal("the deadline of a value", redis.ttl("app:k4").between?(590, 600), true)
cache.write("large", "x" * 100_000, compress: true)
equal("a compressed value", cache.read("large"), "x" * 100_000)
cache.delete_matched("k1*")
equal("delete_matched", cache.read_multi(*(0...50).map { |n| "k#{n}" }).size, 37)
cache.write("versioned", 1, version: 1)
equal("versions", [cache.read("versioned", version: 1), cache.read("versioned", version: 2)], [1, nil])

token = redis(0).call("SAPWOOD", "TOKEN")
raise "the second node does not catch up" unless redis(1).call("SAPWOOD", "READY", token, "60000") == 1
$node = 1
cache = store
executed.clear
equal("from the other node", compute.("a"), { "page" => "a" })
equal("the block is not executed", executed, [])
equal("values", cache.read_multi("k1", "k4", "k49", "new"), { "k4" => 4, "k49" => 49, "new" => "made new" })
equal("a counter", cache.increment("hits", 5), 105)
equal("unless_exist, of a key of the other node", store.write("once", 9, unless_exist: true), false)
cache.clear
equal("clear, of the namespace", [cache.read("k4"), redis.keys("app:*")], [nil, []])
puts JSON.generate(
  framework: "Rails cache store", version: ActiveSupport::VERSION::STRING, client: "redis-rb #{Redis::VERSION}",
  checks: $checks, refused: []
)
