<?php
// PHP's own sessions, kept by phpredis, with locking: requests of one visitor wait for each other.

require __DIR__ . '/shared.php';

/** What one request does with the session of a visitor. */
function request(int $port, string $id, callable $work): mixed
{
    ini_set('session.save_path', "tcp://127.0.0.1:$port?database=11&timeout=60");
    session_id($id);
    if (!session_start()) {
        throw new RuntimeException('the session has not started');
    }
    $result = $work();
    session_write_close();
    return $result;
}

ini_set('session.save_handler', 'redis');
ini_set('session.use_cookies', '0');
ini_set('session.cache_limiter', '');
ini_set('session.gc_maxlifetime', '600');
ini_set('redis.session.locking_enabled', '1');
ini_set('redis.session.lock_expire', '30');
ini_set('redis.session.lock_wait_time', '2000');
ini_set('redis.session.lock_retries', '-1');

if (($argv[1] ?? '') === 'count') {
    // One of several processes: many requests, each of which adds an item.
    for ($n = 0; $n < 25; $n++) {
        request((int) $argv[2], $argv[3], fn() => $_SESSION['items'][] = 1);
    }
    exit(0);
}

$run = new Run('PHP sessions with locking', PHP_VERSION);
$port = $run->port();
request($port, 'ada', fn() => $_SESSION['name'] = 'Ada');
$run->equal('a session', request($port, 'ada', fn() => $_SESSION['name']), 'Ada');
$run->equal('another one', request($port, 'bob', fn() => $_SESSION), []);
in_processes(4, fn() => ['count', $port, 'busy']);
$run->equal('no request loses an item', request($port, 'busy', fn() => count($_SESSION['items'])), 100);
$redis = $run->redis(11);
$run->equal('no lock is left', $redis->keys('*LOCK*'), []);
$run->equal('sessions have a deadline', $redis->ttl('PHPREDIS_SESSION:ada') > 500, true);
request($port, 'bob', fn() => session_destroy());
$run->equal('a session that was destroyed', $redis->exists('PHPREDIS_SESSION:bob'), 0);

$run->move();
$port = $run->port();
$run->equal('the session of the other node', request($port, 'ada', fn() => $_SESSION['name']), 'Ada');
in_processes(4, fn() => ['count', $port, 'busy']);
$run->equal('requests go on', request($port, 'busy', fn() => count($_SESSION['items'])), 200);
$run->equal('no lock is left', $run->redis(11)->keys('*LOCK*'), []);
$run->finish();
