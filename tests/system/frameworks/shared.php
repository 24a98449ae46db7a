<?php
// What the PHP scripts of this folder share: see shared.py.

final class Run
{
    public array $ports;
    public int $node = 0;
    private array $checks = [0, 0];
    public array $refused = [];

    public function __construct(private string $framework, private string $version)
    {
        global $argv;
        $this->ports = [(int) $argv[1], (int) $argv[2]];
        set_error_handler(function ($level, $text, $file, $line) {
            throw new ErrorException($text, 0, $level, $file, $line);
        });
    }

    public function port(): int
    {
        return $this->ports[$this->node];
    }

    public function redis(int $database = 0): Redis
    {
        $redis = new Redis();
        $redis->connect('127.0.0.1', $this->port(), 60);
        $redis->select($database);
        return $redis;
    }

    public function equal(string $what, mixed $got, mixed $wanted): void
    {
        if ($got !== $wanted) {
            throw new RuntimeException("$what: " . json_encode($got) . ' instead of ' . json_encode($wanted));
        }
        $this->checks[$this->node]++;
    }

    /** Goes on with the second node, once that holds what was written to the first. */
    public function move(): void
    {
        $token = $this->redis()->rawCommand('SAPWOOD', 'TOKEN');
        $this->node = 1;
        $held = $this->redis()->rawCommand('SAPWOOD', 'READY', $token, '60000');
        if ($held !== 1) {
            throw new RuntimeException('the second node does not catch up: ' . json_encode($held));
        }
    }

    public function finish(): void
    {
        echo json_encode([
            'framework' => $this->framework,
            'version' => $this->version,
            'client' => 'phpredis ' . phpversion('redis'),
            'checks' => $this->checks,
            'refused' => $this->refused,
        ]), "\n";
    }
}

/** Runs this program with other arguments, many times at once; returns what each has written. */
function in_processes(int $count, callable $arguments): array
{
    $running = [];
    for ($n = 0; $n < $count; $n++) {
        $command = [PHP_BINARY, $_SERVER['SCRIPT_FILENAME'], ...array_map('strval', $arguments($n))];
        $running[] = [proc_open($command, [1 => ['pipe', 'w'], 2 => STDERR], $pipes), $pipes[1]];
    }
    $texts = [];
    foreach ($running as [$process, $output]) {
        $texts[] = stream_get_contents($output);
        $status = proc_close($process);
        if ($status !== 0) {
            throw new RuntimeException("a process has ended with status $status");
        }
    }
    return $texts;
}
