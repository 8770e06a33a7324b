using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>
/// Writes down where a moved machine's disks are: in the agent's state folder, by which restores find them, and as a launch record, for whoever
/// starts the machine next.
/// </summary>
internal sealed class MovedMachine(QemuDriverContext context, QemuMachine machine)
{
    /// <summary>In the state folder. May be repeated.</summary>
    public void Remember(IReadOnlyList<MovingDisk> moved)
    {
        if (LastSeen.Read(context.Options.StateFolder, machine.Uuid) is { } seen)
        {
            LastSeen.Write(context.Options.StateFolder, machine.Uuid, MovedDisks.Apply(seen, moved).Write());
        }
    }

    /// <summary>As launch records, when it is remembered and the old images have made room. May be repeated.</summary>
    /// <exception cref="IOException">How an adopted machine is started could be written nowhere.</exception>
    public void WriteLaunch(IReadOnlyList<MovingDisk> moved)
    {
        if (LastSeen.Read(context.Options.StateFolder, machine.Uuid) is not { } document)
        {
            return;
        }
        var request = Request(machine.Uuid, machine.Name);
        var launch = new ArgvRewriter(document, request, [], context.Entropy).Rewrite();
        var images = document.Disks.Select(disk => new ImageReplacement(disk.File, Path.GetFullPath(disk.File, document.WorkingDirectory), disk.Format, disk.Name)).ToList();
        var plan = new RestorePlan(document, document.Executable, document.WorkingDirectory, images, [], launch, []);
        var adopted = context.Moving.FindAdopted(machine.Uuid) is { Complete: true } complete ? complete : null;
        // An emulator of the machine's TPM has to be started before: only whoever does so knows how.
        if (document.Tpm is null)
        {
            WriteForPeople(plan, request, moved, adopted?.Script);
        }
        if (adopted is not null)
        {
            WriteAdopted(plan with { Tpm = TpmPlacement.WhereItIs(document) }, request, adopted);
        }
    }

    /// <summary>The script that starts the machine on its new images.</summary>
    public static string ScriptOf(string machineName, string firstImage) => FilesOf(machineName, firstImage).Script;

    /// <summary>The launch record beside an image, under the machine's name.</summary>
    public static LaunchFiles FilesOf(string name, string image) =>
        LaunchFiles.For(Request(default, name), [new ImageReplacement("", image, "", "")]);

    private void WriteForPeople(RestorePlan plan, RestoreRequest request, IReadOnlyList<MovingDisk> moved, string? adoptedScript)
    {
        TryWrite(FilesOf(machine.Name, moved[0].NewPath));
        // The records of earlier restores, or moves, name the old images.
        foreach (var folder in moved.Select(static disk => Path.GetDirectoryName(disk.OldPath)!).Distinct(StringComparer.Ordinal).Where(Directory.Exists))
        {
            foreach (var prefix in new[] { "", new Images.ImageFileNames().Add(machine.Name) + "." })
            {
                var files = new LaunchFiles(Path.Combine(folder, $"{prefix}launch.sh"), Path.Combine(folder, $"{prefix}launch.json"), Path.Combine(folder, $"{prefix}qemu.log"));
                if (files.Script != adoptedScript && File.Exists(files.Record) && File.ReadAllText(files.Record).Contains(machine.Uuid.ToUuidString(), StringComparison.Ordinal))
                {
                    TryWrite(files);
                }
            }
        }

        // For people; a storage that has filled up meanwhile keeps nobody from finishing the move.
        void TryWrite(LaunchFiles files)
        {
            try
            {
                new MachineLauncher(context, plan, request, files).WriteRecord();
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
            {
                File.Delete(files.Record);
                File.Delete(files.Script);
            }
        }
    }

    // By it the agent starts the machine: there always is one, and it names the disks where they are.
    private void WriteAdopted(RestorePlan plan, RestoreRequest request, AdoptedMachine adopted)
    {
        var files = new LaunchFiles(adopted.Script, Path.ChangeExtension(adopted.Script, ".json"), adopted.Log);
        try
        {
            new MachineLauncher(context, plan, request, files).WriteRecord();
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            var other = Path.Combine(context.Options.StateFolder!, $"start-{machine.Uuid}.sh");
            new MachineLauncher(context, plan, request, new LaunchFiles(other, Path.ChangeExtension(other, ".json"), Path.ChangeExtension(other, ".log"))).WriteRecord();
            context.Moving.Write(adopted with { Script = other, Log = Path.ChangeExtension(other, ".log") });
        }
    }

    private static RestoreRequest Request(Id16 machine, string name) =>
        new(machine, default, "qemu", new MachineConfiguration(name, default, ArgvDocument.Kind, default), [], "", name) { Placement = RestorePlacement.Replace, KeepIdentity = true };
}
