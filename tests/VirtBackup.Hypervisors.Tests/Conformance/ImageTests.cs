using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>The port on image files of machines that are off, which track no changes.</summary>
public sealed class ImageTests : HypervisorConformance
{
    protected override async Task<ConformanceMachine> StartAsync()
    {
        var machine = new ImageFilesMachine();
        await machine.PrepareAsync();
        return machine;
    }

    private sealed class ImageFilesMachine : ConformanceMachine
    {
        private readonly LabDirectory folder = new();
        private int restored;

        public override Id16 Id { get; } = Id16.Create(SystemEntropy.Instance);

        public override IReadOnlyList<string> Disks => ["raw", "qcow2"];

        public async Task PrepareAsync()
        {
            var content = ServerDisks.Sparse(new Random(3), 700 << 10);
            await File.WriteAllBytesAsync(PathOf("raw"), content);
            await LabDisk.ConvertAsync(PathOf("raw"), LabDiskFormat.Raw, PathOf("qcow2"), LabDiskFormat.Qcow2);
        }

        public override IHypervisor Connect() => new ImageHypervisor(
            [new ImageMachine(Id, Name, [.. Disks.Select(disk => new MachineImage(disk, PathOf(disk), disk))])], new ImageTools(), TimeProvider.System);

        public override async Task WriteAsync(string disk, long offset, byte[] data)
        {
            await File.WriteAllBytesAsync(folder.File("data"), data);
            await Proc.CheckAsync("qemu-io", ["-f", disk, "-c", $"write -s {folder.File("data")} {offset} {data.Length}", PathOf(disk)]);
        }

        public override Task<byte[]> ReadAsync(string disk) => ReadImageAsync(PathOf(disk), disk);

        public override async Task<string?> FindLeftoversAsync()
        {
            // qemu-nbd names the image that it serves.
            var served = await Proc.RunAsync("pgrep", ["-f", $"qemu-nbd.*{folder.Path}/"]);
            return served.ExitCode == 1 ? null : served.Stdout;
        }

        public override Task BreakAsync()
        {
            File.Delete(PathOf("qcow2"));
            return Task.CompletedTask;
        }

        public override string NewRestoreFolder() => folder.File($"restored-{restored++}");

        public override bool HasRestored(string folder) => Directory.Exists(folder);

        public override Task<byte[]> ReadRestoredAsync(RestoredMachine restored, string disk) => ReadImageAsync(restored.Details[$"disk {disk}"], disk);

        public override ValueTask DisposeAsync()
        {
            folder.Dispose();
            return ValueTask.CompletedTask;
        }

        private string PathOf(string disk) => folder.File($"{disk}.img");

        private async Task<byte[]> ReadImageAsync(string path, string format)
        {
            if (format == "raw")
            {
                return await File.ReadAllBytesAsync(path);
            }
            await LabDisk.ConvertAsync(path, LabDiskFormat.Qcow2, folder.File("content"), LabDiskFormat.Raw, inUse: true);
            return await File.ReadAllBytesAsync(folder.File("content"));
        }
    }
}
