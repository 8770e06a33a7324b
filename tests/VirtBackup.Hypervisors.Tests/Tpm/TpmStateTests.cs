using VirtBackup.Core;
using VirtBackup.Hypervisors.Tpm;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Tpm;

/// <summary>The stored form of a TPM's state, its folder, and the command lines of its emulator.</summary>
[System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
public sealed class TpmStateTests
{
    [Fact]
    public void A_state_is_read_as_it_was_written_and_no_byte_of_it_may_differ()
    {
        var state = new TpmState([new TpmStateFile("tpm-00.permall", new byte[] { 1, 2, 3 }), new TpmStateFile("tpm2-00.permall", new byte[3000])]);
        var bytes = state.Write();
        Assert.Equal(state.Files.Select(file => (file.Name, Convert.ToHexString(file.Bytes.Span))), TpmState.Read(bytes).Files.Select(file => (file.Name, Convert.ToHexString(file.Bytes.Span))));
        for (var i = 0; i < bytes.Length; i += i < 60 ? 1 : 97)
        {
            var damaged = (byte[])bytes.Clone();
            damaged[i] ^= 0x20;
            Assert.Throws<FaultException>(() => TpmState.Read(damaged));
            Assert.Throws<FaultException>(() => TpmState.Read(bytes.AsMemory(0, i)));
        }
        Assert.DoesNotContain("01", $"{state.Files[0]}".Replace("tpm-00.permall", "", StringComparison.Ordinal), StringComparison.Ordinal);
    }

    [Fact]
    public void Only_what_lasts_is_read_and_nobody_else_may_read_what_is_written()
    {
        using var scratch = new LabDirectory();
        var folder = scratch.File("a");
        Directory.CreateDirectory(folder);
        Assert.Null(TpmStateFolder.Read(folder));
        File.WriteAllBytes(Path.Combine(folder, "tpm2-00.permall"), [4, 5, 6]);
        File.WriteAllBytes(Path.Combine(folder, "tpm2-00.volatilestate"), [7]);
        File.WriteAllBytes(Path.Combine(folder, ".lock"), []);
        var state = TpmStateFolder.Read(folder)!;
        Assert.Equal("tpm2-00.permall", Assert.Single(state.Files).Name);

        var copy = scratch.File("b");
        File.WriteAllText(scratch.File("c"), "");
        TpmStateFolder.Write(copy, state);
        var file = Assert.Single(Directory.EnumerateFileSystemEntries(copy));
        Assert.Equal([4, 5, 6], File.ReadAllBytes(file));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(copy));
        Assert.Throws<FaultException>(() => TpmStateFolder.Write(scratch.File("c"), state));

        using (var large = File.OpenWrite(Path.Combine(folder, "tpm-00.permall")))
        {
            large.SetLength(TpmState.FileBytesMax + 1);
        }
        Assert.Contains("at most", Assert.Throws<FaultException>(() => TpmStateFolder.Read(folder)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_emulator_is_started_on_another_folder_with_what_its_state_needs_and_nothing_of_its_old_process()
    {
        string[] stored = ["socket", "--ctrl", "type=unixio,path=/run/a.sock,mode=0600", "--tpmstate=dir=state,mode=0600", "--tpm2", "-t", "--log", "file=/var/log/a,level=5", "--key", "pwdfile=/etc/key,mode=aes-256-cbc", "-r", "tss", "--pid", "file=/run/pid", "-d"];
        Assert.Equal("/home/vm/state", TpmEmulatorCommand.StateFolderOf(stored, "/home/vm"));
        Assert.Equal("/x/y", TpmEmulatorCommand.StateFolderOf(["socket", "--tpmstate", "backend-uri=dir:///x/y/"], "/"));
        Assert.Null(TpmEmulatorCommand.StateFolderOf(["socket", "--tpmstate", "backend-uri=file:///x"], "/"));
        Assert.Equal("/etc/key", TpmEmulatorCommand.KeyFileOf(stored));
        Assert.Equal("", TpmEmulatorCommand.KeyFileOf(["socket", "--key", "fd=7"]));
        Assert.Null(TpmEmulatorCommand.KeyFileOf(["socket", "--tpm2"]));
        Assert.Equal(
            ["socket", "--tpm2", "--key", "pwdfile=/etc/key,mode=aes-256-cbc", "--tpmstate", "dir=/n/tpm,mode=0600", "--ctrl", "type=unixio,path=/n/tpm.sock,mode=0600", "--terminate", "--daemon"],
            TpmEmulatorCommand.For(stored, "/n/tpm", "/n/tpm.sock", keepsUser: false));
        Assert.Contains("--runas", TpmEmulatorCommand.For(stored, "/n/tpm", "/n/tpm.sock", keepsUser: true));
    }

    [Fact]
    public async Task An_emulator_is_found_by_its_socket_without_being_spoken_to()
    {
        await using var tpm = await LabTpm.StartAsync();
        Assert.Null(TpmEmulator.FindBySocket(tpm.Socket + "2"));
        var found = TpmEmulator.FindBySocket(tpm.Socket)!;
        Assert.Equal(tpm.StateFolder, found.StateFolder);
        Assert.EndsWith("/swtpm", found.Executable, StringComparison.Ordinal);
        Assert.Equal(found.Pid, TpmEmulator.FindByFolder(folder => folder == tpm.StateFolder)?.Pid);
        Assert.Equal(Environment.ProcessId, ListeningProcess.OfProgram("").First(pid => pid == Environment.ProcessId));
    }
}
