<?php
// Symfony's cache, through phpredis: items, contracts, many at once, namespaces.

require __DIR__ . '/shared.php';
require 'Symfony/Component/Cache/autoload.php';
require 'Symfony/Component/Lock/autoload.php';

use Symfony\Component\Cache\Adapter\RedisAdapter;
use Symfony\Component\Cache\Adapter\RedisTagAwareAdapter;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\RedisStore;
use Symfony\Contracts\Cache\ItemInterface;

function version(string $package): string
{
    return rtrim(shell_exec("dpkg-query -W -f '\${source:Upstream-Version}' $package"));
}

$run = new Run('Symfony cache', version('php-symfony-cache'));
$connect = fn() => RedisAdapter::createConnection("redis://127.0.0.1:{$run->port()}/14?timeout=60&read_timeout=60");
$computed = 0;
$report = function (RedisAdapter $cache, string $name) use (&$computed) {
    return $cache->get($name, function (ItemInterface $item) use (&$computed, $name) {
        $computed++;
        $item->expiresAfter(300);
        return ['report' => $name];
    });
};

$cache = new RedisAdapter($connect(), 'app', 600);
$run->equal('get', [$report($cache, 'a'), $report($cache, 'a'), $computed], [['report' => 'a'], ['report' => 'a'], 1]);
for ($n = 0; $n < 50; $n++) {
    $cache->saveDeferred($cache->getItem("k$n")->set(['n' => $n]));
}
$run->equal('commit of many', $cache->commit(), true);
$found = [];
foreach ($cache->getItems(['k0', 'k49', 'none']) as $key => $item) {
    $found[$key] = $item->get();
}
$run->equal('getItems', $found, ['k0' => ['n' => 0], 'k49' => ['n' => 49], 'none' => null]);
$run->equal('deleteItems', $cache->deleteItems(['k0', 'k1']), true);
$run->equal('hasItem', [$cache->hasItem('k1'), $cache->hasItem('k2')], [false, true]);
$cache->save($cache->getItem('late3')->set(3));
$run->equal('the deadline', (int) round($connect()->ttl($connect()->keys('*k2')[0]), -2), 600);
$other = new RedisAdapter($connect(), 'other', 600);
$run->equal('another namespace', $other->getItem('k2')->isHit(), false);
$other->save($other->getItem('mine')->set(1));
$run->equal('clear of a namespace', [$other->clear(), $other->getItem('mine')->isHit(), $cache->hasItem('k2')], [true, false, true]);
$run->equal('clear of a prefix', [$cache->clear('late'), $cache->getItem('late3')->isHit(), $cache->hasItem('k2')], [true, false, true]);

$tagged = new RedisTagAwareAdapter($connect(), 'tagged', 600);
$locks = new LockFactory(new RedisStore($connect()));
foreach (
    [
        '`RedisTagAwareAdapter` (sets)' => fn() => $tagged->save($tagged->getItem('a')->set(1)->tag('t')),
        'Symfony Lock '.version('php-symfony-lock').' (sorted sets)' => fn() => $locks->createLock('l', 30)->acquire(),
    ] as $feature => $call
) {
    try {
        $result = $call();
    } catch (Throwable $error) {
        $error = $error->getPrevious() ?? $error;
        $run->equal($feature, str_contains($error->getMessage(), 'UNSUPPORTED'), true);
        $run->refused[] = $feature;
        continue;
    }
    throw new LogicException("$feature: " . json_encode($result));
}

$run->move();
$cache = new RedisAdapter($connect(), 'app', 600);
$run->equal('get, from the other node', [$report($cache, 'a'), $computed], [['report' => 'a'], 1]);
$run->equal('values', [$cache->getItem('k1')->get(), $cache->getItem('k49')->get()], [null, ['n' => 49]]);
$run->equal('delete', [$cache->deleteItem('k49'), $cache->hasItem('k49')], [true, false]);
$run->equal('clear', [$cache->clear(), $cache->hasItem('k2')], [true, false]);
$run->finish();
