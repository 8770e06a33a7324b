using System.Text;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>The promise of the product, on a real guest that a real libvirt manages.</summary>
public sealed class LibvirtTests
{
    [Fact]
    public async Task A_machine_is_restored_in_place_replaced_and_after_it_was_undefined_under_its_identity()
    {
        await using var libvirt = await LabLibvirt.StartAsync();
        var domain = await libvirt.DefineAsync("web", LabDiskFormat.Raw);
        await domain.BootAsync();
        var (installation, _) = await Installation.StartAsync((installation, agent) => agent.Add(libvirt, installation.File("scratch")));
        await using var ended = installation;
        await installation.WaitForMachineAsync("web");

        (await domain.ExecAsync("echo first > /data/marker && echo first > /root/marker && sync")).EnsureSuccess();
        var first = await installation.BackUpAsync("web");
        Assert.Equal("filesystem", first.GetProperty("consistency").GetString());
        (await domain.ExecAsync("echo second > /data/marker && echo second > /root/marker && sync")).EnsureSuccess();
        var second = await installation.BackUpAsync("web");
        Assert.Equal(Outcomes.PointOf(first), second.GetProperty("base_point_id").GetString());

        // In its own place: the changed blocks alone, then new disks with another bus and network.
        Outcomes.AssertOneError(await installation.RunAsync("restore", "run", Outcomes.PointOf(first), "--in-place"), 1, "is running", "Shut it down");
        await libvirt.VirshAsync("destroy", "web");
        var plan = (await installation.RunAsync("restore", "plan", Outcomes.PointOf(first), "--in-place", "--no-measurement")).Json.GetProperty("result").GetProperty("restore_check");
        Assert.True(plan.GetProperty("possible").GetBoolean());
        var inPlace = RestoreOf(await installation.RunAsync("restore", "run", Outcomes.PointOf(first), "--in-place"));
        await AssertMarkerAsync(domain, "first");
        Assert.True(inPlace.GetProperty("running").GetBoolean());
        Assert.InRange(inPlace.GetProperty("bytes_written").GetInt64(), 1, 16 << 20);
        Assert.Equal("[]", inPlace.GetProperty("differences").GetRawText());
        await libvirt.VirshAsync("destroy", "web");
        var replaced = RestoreOf(await installation.RunAsync("restore", "run", Outcomes.PointOf(second), "--replace", "--bus", "vdb=scsi", "--map-network", "user=isolated"));
        await AssertMarkerAsync(domain, "second");
        Assert.Contains(replaced.GetProperty("differences").EnumerateArray(), difference => difference.GetProperty("item").GetString() == "disks.vdb.target.bus" && difference.GetProperty("recreated").GetString() == "scsi");
        await libvirt.VirshAsync("destroy", "web");

        await libvirt.VirshAsync("undefine", "web", "--checkpoints-metadata");
        Directory.Delete(libvirt.File("web"), recursive: true);
        Outcomes.AssertOneError(await installation.RunAsync("restore", "run", Outcomes.PointOf(first), "--replace"), 1, "there is nothing to replace", "--folder");
        var folder = libvirt.File("restored");
        var result = RestoreOf(await installation.RunAsync("restore", "run", Outcomes.PointOf(first), "--folder", folder, "--name", "web", "--keep-identity"));
        Assert.Equal(domain.Uuid.ToString(), (await libvirt.VirshAsync("domuuid", "web")).Trim());
        await AssertMarkerAsync(new LabDomain(libvirt, "web", domain.Uuid) { AgentPath = Path.Combine(folder, "web.qga") }, "first");
        Assert.True(result.GetProperty("running").GetBoolean());
        await libvirt.VirshAsync("destroy", "web");

        // The restored machine, off and under another name, goes on with the chain: it is the same machine.
        await libvirt.VirshAsync("domrename", "web", "renamed");
        await installation.WaitForMachineAsync("renamed");
        var third = await installation.BackUpAsync("renamed");
        var points = await installation.ListPointsAsync("--vm", "renamed");
        Assert.Equal([Outcomes.PointOf(third), Outcomes.PointOf(second), Outcomes.PointOf(first)], points);
    }

    private static JsonElement RestoreOf(CommandResult result) => result.Json.GetProperty("result").GetProperty("restore");

    private static async Task AssertMarkerAsync(LabDomain domain, string marker)
    {
        Assert.Equal($"{marker}\n", Encoding.UTF8.GetString(await domain.ReadFileAsync("/data/marker")));
        Assert.Equal($"{marker}\n", Encoding.UTF8.GetString(await domain.ReadFileAsync("/root/marker")));
    }
}
