using System.Text;
using CsCheck;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class QmpClientTests
{
    private const string Greeting = """{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":["oob"]}}""" + "\n";
    private static readonly string[] Replies =
    [
        """{"return":{},"id":"1"}""",
        """{"event":"STOP","timestamp":{"seconds":1,"microseconds":2}}""" + "\n" + """{"return":[{"device":"","qdev":"d","removable":false,"inserted":{"node-name":"n"}}],"id":"2"}""",
        """{"return":[{"node-name":"n","drv":"qcow2","ro":false,"file":"/f","image":{"virtual-size":512,"format-specific":{"data":{"compat":"1.1"}}},"dirty-bitmaps":[{"name":"x","count":0}]}],"id":"3"}""",
        """{"return":"virtio-blk-device","id":"4"}""",
        """{"error":{"class":"GenericError","desc":"Property not found"},"id":"5"}""",
    ];

    private static async Task<IReadOnlyList<QemuDisk>> ConverseAsync(byte[] greeting, IReadOnlyList<byte[]> replies, int limitMilliseconds = 10_000)
    {
        using var folder = new LabDirectory();
        await using var server = new FakeMonitor(folder.File("qmp.sock"), greeting, replies);
        var limit = TimeSpan.FromMilliseconds(limitMilliseconds);
        await using var qmp = await QmpClient.ConnectAsync(server.SocketPath, TimeProvider.System, limit, limit, default);
        return await BlockInventory.ReadAsync(qmp, new Id16(1), new HashSet<string>(), default);
    }

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text + "\n");

    [Fact]
    public async Task The_unharmed_conversation_is_understood()
    {
        var disk = Assert.Single(await ConverseAsync(Encoding.UTF8.GetBytes(Greeting), [.. Replies.Select(Bytes)]));
        Assert.Equal(("d", 512L, "qcow2", null), (disk.Summary.Name, disk.Summary.LengthBytes, disk.Summary.Format, disk.Summary.SkipReason));
        Assert.Equal("/machine/peripheral/d", disk.DevicePath);
    }

    private static readonly string[] Oddities =
    [
        "{}\n", "[]\n", "null\n", "\"x\"\n", "{\"return\":7,\"id\":\"1\"}\n", "{\"return\":{\"id\":[]},\"id\":{}}\n", "{\"error\":[]}\n", "{\"event\":3}\n", "{\"id\":\"2\"}\n",
            "{\"return\":\"\\ud800\",\"id\":\"1\"}\n",
    ];

    private static readonly Gen<byte[]> Garbage = Gen.OneOf(
        Gen.Byte.Array[0, 60],
        Gen.Int[0, Oddities.Length - 1].Select(i => Encoding.UTF8.GetBytes(Oddities[i])));

    private static readonly Gen<(int Line, int At, byte[] Bytes, bool Replace)> Mutations =
        Gen.Select(Gen.Int[-1, 4], Gen.Int[0, 400], Garbage, Gen.Bool);

    [Fact]
    public void Whatever_the_peer_says_the_answer_is_a_fault_or_a_result() => Mutations.Sample(mutation =>
    {
        byte[][] lines = [Encoding.UTF8.GetBytes(Greeting), .. Replies.Select(Bytes)];
        var line = lines[mutation.Line + 1];
        var at = Math.Min(mutation.At, line.Length);
        var rest = line[Math.Min(line.Length, at + mutation.Bytes.Length)..];
        lines[mutation.Line + 1] = mutation.Replace ? mutation.Bytes : [.. line.AsSpan(0, at), .. mutation.Bytes, .. rest];
        try
        {
            Assert.InRange(ConverseAsync(lines[0], lines[1..], limitMilliseconds: 50).WaitAsync(TimeSpan.FromSeconds(30)).GetAwaiter().GetResult().Count, 0, 1);
        }
        catch (FaultException fault)
        {
            Assert.Contains(fault.Reason, new[] { FaultReason.Malformed, FaultReason.HypervisorUnavailable, FaultReason.FailedPrecondition });
        }
    }, iter: 600, threads: 2);

    [Fact]
    public async Task Commands_sent_together_are_all_answered_and_the_first_refusal_is_told()
    {
        using var folder = new LabDirectory();
        var refusal = """{"error":{"class":"GenericError","desc":"not now"},"id":"2"}""";
        // The peer may see both with one look or with two: then the last answer comes early, which is all the same.
        await using var server = new FakeMonitor(folder.File("qmp.sock"), Encoding.UTF8.GetBytes(Greeting),
            [Bytes(Replies[0]), Bytes($"{refusal}\n{{\"return\":{{}},\"id\":\"3\"}}"), Bytes("""{"return":7,"id":"4"}"""), [], []]);
        var limit = TimeSpan.FromSeconds(10);
        await using var qmp = await QmpClient.ConnectAsync(server.SocketPath, TimeProvider.System, limit, limit, default);
        var refused = await Assert.ThrowsAsync<FaultException>(() => qmp.ExecuteAllAsync([new QmpCommand("one"), new QmpCommand("two")], limit, default));
        Assert.Contains("refused 'one': GenericError: not now", refused.Message, StringComparison.Ordinal);
        Assert.Equal(7, (await qmp.ExecuteAsync("three", null, default)).GetInt32());
    }

    [Fact]
    public async Task A_reply_without_end_is_cut_off()
    {
        var endless = new byte[QmpClient.ReplyBytesMax + (1 << 20)];
        endless.AsSpan().Fill((byte)' ');
        var fault = await Assert.ThrowsAsync<FaultException>(() => ConverseAsync(Encoding.UTF8.GetBytes(Greeting), [endless]));
        Assert.Equal(FaultReason.Malformed, fault.Reason);
    }

    [Fact]
    public async Task Errors_carry_class_and_description_and_a_closed_socket_its_path()
    {
        var refused = await Assert.ThrowsAsync<FaultException>(
            () => ConverseAsync(Encoding.UTF8.GetBytes(Greeting), [Bytes("""{"error":{"class":"CommandNotFound","desc":"no such thing"},"id":"1"}""")]));
        Assert.Equal(FaultReason.FailedPrecondition, refused.Reason);
        Assert.Contains("CommandNotFound: no such thing", refused.Message, StringComparison.Ordinal);
        var closed = await Assert.ThrowsAsync<FaultException>(() => ConverseAsync(Encoding.UTF8.GetBytes(Greeting), []));
        Assert.Equal(FaultReason.HypervisorUnavailable, closed.Reason);
        Assert.Contains("qmp.sock", closed.Message, StringComparison.Ordinal);
    }
}
