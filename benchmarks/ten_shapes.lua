-- Requests of ten shapes, a new name nearly every time; the tenth is of 24 functions.
local letters = "abcdefghijklmnop"
local seed = 1
local function number(most)
	seed = (seed * 1103515245 + 12345) % 2147483648
	return math.floor(seed / 2147483648 * most)
end
local function word()
	local text = {}
	for at = 1, 8 do
		local place = number(16) + 1
		text[at] = letters:sub(place, place)
	end
	return table.concat(text)
end
local shapes = {
	function() return "/users/" .. word() end,
	function() return "/users/" .. word() .. "/orders" end,
	function() return "/shops/" .. word() .. "/items/" .. number(9999) end,
	function() return "/files/" .. word() .. ".pdf" end,
	function() return "/deep/down/here/" .. word() .. "/x" end,
	function() return "/tags/" .. word() end,
	function() return "/search/" .. word() .. "/" .. word() end,
	function() return "/pages/" .. word() .. "/edit" end,
	function() return "/" .. word() .. "/" .. word() .. "/issues/" .. number(9999) end,
	function() return "/rpc/Method" .. string.char(65 + number(24)) end,
}
local at = 0
function request()
	at = at % 10 + 1
	return wrk.format("GET", shapes[at]())
end
