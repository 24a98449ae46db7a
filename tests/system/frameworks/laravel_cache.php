<?php
// Laravel's cache and limiters, through phpredis.

require __DIR__ . '/shared.php';
require 'Illuminate/Redis/autoload.php';
require 'Illuminate/Cache/autoload.php';

use Illuminate\Cache\RateLimiter;
use Illuminate\Cache\RedisStore;
use Illuminate\Cache\Repository;
use Illuminate\Redis\RedisManager;

/** A connection, and the cache and the limiter on it. */
function connect(int $port): array
{
    $redis = new RedisManager(null, 'phpredis', [
        'options' => ['prefix' => 'shop_'],
        'default' => ['host' => '127.0.0.1', 'port' => $port, 'database' => 12, 'read_timeout' => 60],
    ]);
    $cache = new Repository(new RedisStore($redis, 'cache:', 'default'));
    return [$redis->connection(), $cache, new RateLimiter($cache)];
}

if (in_array($argv[1] ?? '', ['work', 'add'])) {
    // One of several processes that do the same at once.
    [, $cache] = connect((int) $argv[2]);
    if ($argv[1] === 'add') {
        echo $cache->add('winner', getmypid(), 60) ? 'won' : '';
        exit(0);
    }
    for ($n = 0; $n < 15; $n++) {
        $cache->lock('balance-lock', 30)->block(30, function () use ($cache) {
            $cache->forever('balance', $cache->get('balance', 0) + 1);
        });
    }
    exit(0);
}

$run = new Run('Laravel cache', rtrim(shell_exec('dpkg-query -W -f \'${source:Upstream-Version}\' php-illuminate-cache')));
[$connection, $cache, $limiter] = connect($run->port());
$run->equal('putMany', $cache->putMany(['k1' => 1, 'k2' => ['two'], 'k3' => 'three'], 600), true);
$run->equal('many', $cache->many(['k1', 'k2', 'none']), ['k1' => '1', 'k2' => ['two'], 'none' => null]);
$computed = 0;
$remember = function () use (&$cache, &$computed) {
    return $cache->remember('report', 600, function () use (&$computed) {
        $computed++;
        return ['rows' => 3];
    });
};
$run->equal('remember', [$remember(), $remember(), $computed], [['rows' => 3], ['rows' => 3], 1]);
$run->equal('add', [$cache->add('once', 'a', 60), $cache->add('once', 'b', 60), $cache->get('once')], [true, false, 'a']);
$run->equal('add wins once', implode(in_processes(6, fn() => ['add', $run->port()])), 'won');
$run->equal('increment', [$cache->increment('hits'), $cache->increment('hits', 9), $cache->decrement('hits', 4)], [1, 10, 6]);
$run->equal('forget', [$cache->forget('k3'), $cache->has('k3'), $cache->pull('k2'), $cache->has('k2')], [true, false, ['two'], false]);
in_processes(3, fn() => ['work', $run->port()]);
$run->equal('the lock excludes others', (int) $cache->get('balance'), 45);
$lock = $cache->lock('held', 60, 'owner');
$run->equal('a lock', [$lock->get(), $cache->lock('held', 60, 'other')->get()], [true, false]);

$allowed = 0;
for ($n = 0; $n < 8; $n++) {
    $allowed += (int) (bool) $limiter->attempt('sign-in:ada', 5, fn() => true, 300);
}
$run->equal('the rate limiter', [$allowed, $limiter->remaining('sign-in:ada', 5)], [5, 0]);
$run->equal('when it is free again', $limiter->availableIn('sign-in:ada') > 290, true);
$busy = 0;
$connection->funnel('printer')->limit(2)->releaseAfter(60)->block(0)->then(function () use ($connection, &$busy) {
    $connection->funnel('printer')->limit(2)->releaseAfter(60)->block(0)->then(function () use ($connection, &$busy) {
        $connection->funnel('printer')->limit(2)->releaseAfter(60)->block(0)->then(fn() => null, function () use (&$busy) {
            $busy++;
        });
    });
});
$run->equal('funnel: two at the same time', $busy, 1);
foreach (
    [
        'tags (sets)' => fn() => $cache->tags(['people'])->put('ada', 1, 60),
        '`Redis::throttle` (hashes)' => fn() => $connection->throttle('api')->allow(5)->every(60)->block(0)->then(fn() => 1),
    ] as $feature => $call
) {
    try {
        $call();
        throw new LogicException("$feature has worked");
    } catch (RedisException $error) {
        $run->equal($feature, str_contains($error->getMessage(), 'UNSUPPORTED'), true);
        $run->refused[] = $feature;
    }
}

$run->move();
[$connection, $cache, $limiter] = connect($run->port());
$run->equal('values of the other node', $cache->many(['k1', 'k2', 'once']), ['k1' => '1', 'k2' => null, 'once' => 'a']);
$run->equal('remember', [$remember(), $computed], [['rows' => 3], 1]);
$run->equal('increment', $cache->increment('hits', 4), 10);
$run->equal('a lock of the other node', $cache->lock('held', 60, 'other')->get(), false);
$run->equal('only its owner releases it', [$cache->lock('held', 60, 'other')->release(), $cache->restoreLock('held', 'owner')->release()], [false, true]);
$run->equal('then it is free', $cache->lock('held', 60, 'other')->get(), true);
$run->equal('the rate limiter', $limiter->tooManyAttempts('sign-in:ada', 5), true);
$run->equal('flush', [$cache->flush(), $cache->get('k1')], [true, null]);
$run->finish();
