using System.Text;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>The promise of the product, on a real guest that a real libvirt manages.</summary>
public sealed class LibvirtTests
{
    [Fact]
    public async Task A_machine_is_backed_up_destroyed_undefined_and_restored_under_its_identity()
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

        await libvirt.VirshAsync("destroy", "web");
        await libvirt.VirshAsync("undefine", "web", "--checkpoints-metadata");
        Directory.Delete(libvirt.File("web"), recursive: true);

        foreach (var (point, marker) in new[] { (Outcomes.PointOf(first), "first"), (Outcomes.PointOf(second), "second") })
        {
            var folder = libvirt.File($"restored-{marker}");
            var result = (await installation.RunAsync("restore", "run", point, "--folder", folder, "--name", "web", "--keep-identity")).Json;
            Assert.Equal(domain.Uuid.ToString(), (await libvirt.VirshAsync("domuuid", "web")).Trim());
            var restored = new LabDomain(libvirt, "web", domain.Uuid) { AgentPath = Path.Combine(folder, "web.qga") };
            Assert.Equal($"{marker}\n", Encoding.UTF8.GetString(await restored.ReadFileAsync("/data/marker")));
            Assert.Equal($"{marker}\n", Encoding.UTF8.GetString(await restored.ReadFileAsync("/root/marker")));
            Assert.True(result.GetProperty("result").GetProperty("restore").GetProperty("running").GetBoolean());
            await libvirt.VirshAsync("destroy", "web");
            if (marker == "first") await libvirt.VirshAsync("undefine", "web");
        }

        // The restored machine, off and under another name, goes on with the chain: it is the same machine.
        await libvirt.VirshAsync("domrename", "web", "renamed");
        await installation.WaitForMachineAsync("renamed");
        var third = await installation.BackUpAsync("renamed");
        var points = await installation.ListPointsAsync("--vm", "renamed");
        Assert.Equal([Outcomes.PointOf(third), Outcomes.PointOf(second), Outcomes.PointOf(first)], points);
    }
}
