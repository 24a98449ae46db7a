-- Builds what a script sees, out of Luau's library and the functions of the node, which are in `host`.
--
-- It sees the functions of Lua 5.1 that are harmless. Left out is what loads code, what reaches beyond the script, and
-- what takes long without an interrupt (`table.move`, …). Nothing of it can be changed.

local host = ...

local debug_info, error, getmetatable, rawget, select = debug.info, error, getmetatable, rawget, select
local setmetatable, string_find, table_concat, table_sort = setmetatable, string.find, table.concat, table.sort
local freeze, pcall, tostring, type, xpcall = table.freeze, pcall, tostring, type, xpcall

local function pick(from, names)
    local picked = {}
    for name in string.gmatch(names, "%S+") do
        picked[name] = from[name]
    end
    return picked
end

local env = pick(_G, [[
    assert error getmetatable ipairs next pairs rawequal rawget rawset select setmetatable tonumber tostring type unpack
    xpcall
]])
env._G = env
env._VERSION = "Lua 5.1"
env.coroutine = pick(coroutine, "create resume running status wrap yield")
env.math = pick(math, [[
    abs acos asin atan atan2 ceil cos cosh deg exp floor fmod frexp huge ldexp log log10 max min modf pi pow rad random
    randomseed sin sinh sqrt tan tanh
]])
env.os = pick(os, "clock")
env.string = pick(string, "byte char find format gmatch gsub len lower match rep reverse sub upper")
env.table = pick(table, "concat foreach foreachi getn insert maxn remove sort")

-- Luau looks for plain text in quadratic time, without an interrupt.
function env.string.find(text, pattern, init, plain)
    if type(text) == "string" and type(pattern) == "string"
        and (plain or not string_find(pattern, "[%^%$%*%+%?%.%(%[%%%-]")) then
        return host.find(text, pattern, init)
    end
    return string_find(text, pattern, init, plain)
end

-- Without a function, two long strings could be compared many times without an interrupt.
function env.table.sort(list, before)
    return table_sort(list, before or function(a, b) return a < b end)
end

-- As in Redis, a script that catches an error of a command gets its text.
local function as_text(ok, failure, ...)
    if not ok and type(failure) == "table" and type(rawget(failure, "err")) == "string" then
        return false, failure.err
    end
    return ok, failure, ...
end

function env.pcall(...)
    return as_text(pcall(...))
end

-- The functions of the node return whether they have succeeded, and the value or the error.
local function raising(library)
    local functions = {}
    for name, call in library do
        if type(call) == "function" then
            functions[name] = function(...)
                local ok, value = call(...)
                if not ok then error(value, 2) end
                return value
            end
        else
            functions[name] = call
        end
    end
    return functions
end

env.bit = raising(host.bit)
env.cjson = raising(host.cjson)

local redis = {
    LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
    REPL_NONE = 0, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3,
    pcall = host.call,
}
env.redis = redis

function redis.call(...)
    local reply = host.call(...)
    if type(reply) == "table" and reply.err ~= nil then error(reply) end
    return reply
end

local function reply_of(field, text, ...)
    if type(text) ~= "string" or select("#", ...) > 0 then
        return { err = "ERR wrong number or type of arguments" }
    end
    return { [field] = text }
end

function redis.error_reply(text, ...)
    if type(text) == "string" then
        if string.sub(text, 1, 1) == "-" then text = string.sub(text, 2) end
        -- An error begins with a code: one word alone is the text of an error without one.
        if not string.find(text, " ", 1, true) then text = "ERR " .. text end
    end
    return reply_of("err", text, ...)
end

function redis.status_reply(...)
    return reply_of("ok", ...)
end

function redis.sha1hex(...)
    if select("#", ...) ~= 1 then error({ err = "ERR wrong number of arguments" }) end
    return host.sha1hex(tostring((...)))
end

function redis.log(...)
    local level = ...
    if select("#", ...) < 2 then error({ err = "ERR redis.log() requires two arguments or more." }) end
    if type(level) ~= "number" then error({ err = "ERR First argument must be a number (log level)." }) end
    if level < 0 or level > 3 then error({ err = "ERR Invalid debug level." }) end
    host.log(level, table_concat({ select(2, ...) }, " "))
end

function redis.setresp(...)
    if select("#", ...) ~= 1 then error({ err = "ERR redis.setresp() requires one argument." }) end
    local version = ...
    if version ~= 2 and version ~= 3 then error({ err = "ERR RESP version must be 2 or 3." }) end
    host.setresp(version)
end

-- Of no effect since Redis 5: the effects are what is replicated.
function redis.replicate_commands() return true end
function redis.set_repl() end

env.KEYS, env.ARGV = host.keys, host.argv

for _, library in { env.coroutine, env.math, env.os, env.string, env.table, env.bit, env.cjson, env.redis } do
    freeze(library)
end
local strings = getmetatable("")
strings.__index = env.string
freeze(strings)
freeze(setmetatable(env, freeze({
    __index = function(_, name)
        if name == "cmsgpack" or name == "struct" then
            error(name .. " is not supported: no library is kept for it. Use cjson, or encode in the client", 2)
        end
        error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
    end,
    __newindex = function()
        error("Attempt to modify a readonly table", 2)
    end,
})))

-- Adds the line of the script to an error.
local function with_line(failure)
    for level = 1, 16 do
        local source, line = debug_info(level, "sl")
        if source == nil then break end
        if source == "user_script" then return { failure = failure, line = line } end
    end
    return { failure = failure, line = 0 }
end

return env, function(script)
    return xpcall(script, with_line)
end
